"""The ops of a block against their twins, from one table of bounds.

The kernels run in Triton's interpreter (`python -m tests interpreter`) or on a GPU (`--device cuda`).
Error: RMS of the difference over RMS of the twin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import kernels
from kernels import backend, launching
from kernels.weights import Eight, Weight, dense, four, shape_of
from model.quantised import to_q8

# Sums of fp32 products, in another order; what is rounded to bfloat16 behind them differs by 2^-8 where the interpreter
# cuts off what a GPU rounds.
# Matrix units multiply bfloat16, to which activations and weights of few bits are rounded, and cut off the last bits of
# their fp32 sums.
BOUNDS = {torch.float32: 1e-6, torch.bfloat16: 1e-2}
SUMS = {torch.float32: 1e-6, torch.bfloat16: 1e-5}
DTYPES = list(BOUNDS)
# Rows, features in, features out.
SIZES = [(1, 63, 65), (3, 65, 63), (2, 128, 40), (5, 130, 24)]
LARGE = [(1, 1000, 1000), (63, 1000, 65), (32, 896, 1152), (4, 4864, 896)]

pytestmark = [
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),  # every launch here says which it wants
    *([] if launching.INTERPRETED else [pytest.mark.gpu]),
]


def sizes() -> list[Any]:
    return [*SIZES, *(pytest.param(*size, marks=pytest.mark.gpu) for size in LARGE)]


def random(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(device, dtype)


def few_bits(rows: int, columns: int, bits: int, device: str, group: int = 32) -> Weight:
    """Random codes, and the factors that make them numbers."""
    generator = torch.Generator().manual_seed(rows + columns)
    if bits == 8:
        codes = torch.randint(-127, 128, (rows, columns), generator=generator, dtype=torch.int8)
        return Eight(codes.to(device), torch.rand(rows, generator=generator).to(device))
    codes = torch.randint(0, 16, (rows, columns), generator=generator, dtype=torch.uint8)
    steps, offsets = torch.randn(2, rows, columns // group, generator=generator).bfloat16()
    return four(codes.to(device), steps.to(device), offsets.to(device))


def both(call: Callable[[], Any]) -> tuple[Any, Any]:
    """What the kernel gives, the quickest there is, and what its twin gives."""
    ours = call()
    with backend.use(backend.REFERENCE):
        return ours, call()


def error(ours: Tensor, twin: Tensor) -> float:
    assert ours.shape == twin.shape and ours.dtype == twin.dtype
    return float((ours.double() - twin.double()).pow(2).mean().sqrt() / twin.double().pow(2).mean().sqrt())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "k", "n"), sizes())
def test_products(rows: int, k: int, n: int, bias: bool, dtype: torch.dtype, device: str) -> None:
    x = random(rows, 2 * k, device=device)[:, ::2]  # laid out with gaps
    gain, weight = (random(*shape, dtype=dtype, device=device) for shape in ((k,), (2 * n, k)))
    added = random(2 * n, dtype=dtype, device=device) if bias else None
    assert error(*both(lambda: kernels.norm_linear(x, gain, 1e-6, weight, added))) <= BOUNDS[dtype]
    assert error(*both(lambda: kernels.norm_swiglu(x, gain, 1e-6, weight, added))) <= BOUNDS[dtype]
    inner, stream = x.to(dtype), random(rows, 2 * n, device=device)
    assert error(*both(lambda: kernels.linear_add(stream, inner, weight, added))) <= SUMS[dtype]


@pytest.mark.parametrize(
    ("rows", "k", "n", "bits", "group"),
    [
        (3, 65, 21, 8, 0),
        pytest.param(1, 128, 20, 4, 32, marks=pytest.mark.gpu),
        pytest.param(3, 256, 18, 4, 64, marks=pytest.mark.gpu),
        pytest.param(2, 384, 24, 4, 128, marks=pytest.mark.gpu),
        pytest.param(17, 96, 24, 4, 32, marks=pytest.mark.gpu),
        pytest.param(5, 896, 1000, 4, 32, marks=pytest.mark.gpu),
        pytest.param(32, 4864, 448, 4, 32, marks=pytest.mark.gpu),
        pytest.param(63, 1000, 65, 8, 0, marks=pytest.mark.gpu),
        pytest.param(2, 896, 75_968, 8, 0, marks=pytest.mark.gpu),
    ],
)
def test_products_of_few_bits(rows: int, k: int, n: int, bits: int, group: int, device: str) -> None:
    x, gain, weight = random(rows, k, device=device), random(k, device=device), few_bits(2 * n, k, bits, device, group)
    added, stream = random(2 * n, device=device), random(rows, 2 * n, device=device)
    bound = BOUNDS[torch.bfloat16]
    assert error(*both(lambda: kernels.norm_linear(x, gain, 1e-6, weight, added))) <= bound
    assert error(*both(lambda: kernels.norm_swiglu(x, gain, 1e-6, weight))) <= bound
    assert error(*both(lambda: kernels.linear_add(stream, x.bfloat16(), weight))) <= (
        bound if bits == 4 else SUMS[torch.bfloat16]
    )


@pytest.mark.parametrize(
    ("rows", "k", "n"),
    [
        (1, 32, 9),
        (3, 160, 131),
        pytest.param(3, 896, 151_936, marks=pytest.mark.gpu),
        pytest.param(17, 896, 1000, marks=pytest.mark.gpu),
        pytest.param(32, 992, 65, marks=pytest.mark.gpu),
        pytest.param(2, 8192, 40, marks=pytest.mark.gpu),  # too long for matrix units
    ],
)
def test_a_head_of_q8_gives_what_its_sixteen_bits_give(rows: int, k: int, n: int, device: str) -> None:
    x, gain, stored = random(rows, k, device=device), random(k, device=device), to_q8(random(n, k, device=device))
    stored = stored._replace(scales=stored.scales * torch.linspace(1e-3, 900, n, device=device).half().unsqueeze(1))
    same = dense(stored).bfloat16()
    ours, twin = both(lambda: kernels.norm_scores(x, gain, 1e-6, stored).logits)
    assert error(ours, twin) <= BOUNDS[torch.bfloat16]
    if not launching.INTERPRETED and k < 8192:  # both on matrix units, which add them up in one order
        assert torch.equal(ours, kernels.norm_scores(x, gain, 1e-6, same).logits)
    with pytest.raises(ValueError, match="a head's products alone"):
        # What mypy refuses as well is refused when it is called.
        kernels.linear_add(random(rows, n, device=device), x, stored)  # type: ignore[arg-type]


def test_four_bits_stand_for_what_they_were_made_of(device: str) -> None:
    codes = torch.arange(16, dtype=torch.uint8).repeat(3, 16).to(device)
    steps, offsets = random(2, 3, 8, dtype=torch.bfloat16, device=device)
    weight = four(codes, steps, offsets)
    grouped = (codes.float().unflatten(-1, (8, -1)) - 8) * steps.float().unsqueeze(-1) + offsets.float().unsqueeze(-1)
    assert shape_of(weight) == (3, 256)
    assert torch.equal(dense(weight), grouped.flatten(-2))
    with pytest.raises(ValueError, match="rows of 96 in groups of 48"):
        four(codes[:, :96].contiguous(), steps[:, :2], offsets[:, :2])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("heads", "groups", "width", "start", "rows"),
    [
        (4, 2, 32, 0, 1),
        (3, 1, 32, 14, 4),
        (6, 2, 32, 70, 2),
        (2, 2, 32, 99, 1),
        pytest.param(14, 2, 64, 1000, 32, marks=pytest.mark.gpu),
        pytest.param(14, 2, 64, 4000, 3, marks=pytest.mark.gpu),
        pytest.param(32, 4, 128, 63, 5, marks=pytest.mark.gpu),
    ],
)
def test_attention(heads: int, groups: int, width: int, start: int, rows: int, dtype: torch.dtype, device: str) -> None:
    capacity, chunk = (100, 32) if start < 100 and width == 32 else (4096, 128)
    angles = random(capacity, width // 2)
    rotation = torch.cat([angles.cos(), angles.sin()], -1).to(device)
    qkv = random(rows, (heads + 2 * groups) * width, device=device)
    cached = random(2, groups, capacity, width, dtype=dtype, device=device)
    cached[:, :, start:] = torch.nan  # nothing may be seen that no pass has written
    place = torch.tensor([start], dtype=torch.int32, device=device)

    def turned(of: Tensor = qkv) -> tuple[Tensor, Tensor]:
        kept = cached.clone()
        return kernels.turn(of, rotation, *kept, place), kept

    (q, our_cache), (twin_q, kept) = both(turned)
    assert error(q, twin_q) <= BOUNDS[dtype]
    assert error(our_cache[:, :, : start + rows], kept[:, :, : start + rows]) <= BOUNDS[dtype]
    assert our_cache[:, :, start + rows :].isnan().all()
    assert error(*(found[0] for found in both(lambda: turned(qkv.bfloat16())))) <= BOUNDS[dtype]

    def call() -> Tensor:
        return kernels.merge(*kernels.attend(twin_q, *kept, place, chunk), place, chunk, torch.float32)

    assert error(*both(call)) <= BOUNDS[dtype]


@pytest.mark.parametrize(
    ("k", "heads", "groups", "width", "start", "rows", "bits", "bias"),
    [
        (96, 3, 1, 32, 0, 1, 16, True),
        (160, 4, 2, 64, 95, 3, 16, False),
        (128, 4, 2, 32, 98, 4, 32, True),  # rows behind the capacity are only computed
        pytest.param(896, 14, 2, 64, 60, 11, 16, True, marks=pytest.mark.gpu),
        pytest.param(896, 14, 2, 64, 7, 3, 4, True, marks=pytest.mark.gpu),
    ],
)
def test_queries_and_what_is_kept(
    k: int, heads: int, groups: int, width: int, start: int, rows: int, bits: int, bias: bool, device: str
) -> None:
    dtype = torch.float32 if bits == 32 else torch.bfloat16
    features, capacity = (heads + 2 * groups) * width, 100
    plain = random(features, k, dtype=dtype, device=device)
    weight: Any = few_bits(features, k, bits, device) if bits == 4 else plain
    added = random(features, dtype=torch.float32 if bits == 4 else dtype, device=device) if bias else None
    x, gain = random(rows, k, device=device), random(k, dtype=torch.float32 if bits == 4 else dtype, device=device)
    angles = random(capacity, width // 2)
    rotation = torch.cat([angles.cos(), angles.sin()], -1).to(device)
    place = torch.tensor([start], dtype=torch.int32, device=device)

    def call() -> tuple[Tensor, Tensor]:
        kept = torch.full((2, groups, capacity, width), 7.0, dtype=dtype, device=device)
        q = kernels.norm_heads(x, gain, 1e-6, weight, added, rotation, *kept, place)
        assert q.dtype == dtype
        return q[: capacity - start].float(), kept.float()

    (ours, our_cache), (twin, twin_cache) = both(call)
    bound = BOUNDS[dtype]
    assert error(ours, twin) <= bound and error(our_cache, twin_cache) <= bound
    assert torch.equal(our_cache[:, :, :start], twin_cache[:, :, :start])
    assert torch.equal(our_cache[:, :, start + rows :], twin_cache[:, :, start + rows :])


def test_merging_what_the_twin_found(device: str) -> None:
    means, sums = random(3, 2, 40, 32, device=device), random(3, 2, 40, device=device) * 9
    sums[:, 1] -= 200
    for start in (0, 29, 640):
        place = torch.tensor([start], dtype=torch.int32, device=device)
        ours, twin = both(lambda place=place: kernels.merge(means, sums, place, 16, torch.float32))
        assert error(ours, twin) <= BOUNDS[torch.float32]


@pytest.mark.parametrize("vocabulary", [32, 65, 1000, 1025])
def test_a_mask_strikes_out_exactly_its_zero_bits(vocabulary: int, device: str) -> None:
    words = -(-vocabulary // 32)
    bits = torch.randint(-(2**31), 2**31, (3, words), generator=torch.Generator().manual_seed(1)).int().to(device)
    logits = random(3, vocabulary, device=device)
    for mask in (bits, bits[:1].clone()):
        ours, twin = both(lambda mask=mask: kernels.mask_logits(logits.clone(), mask))
        assert torch.equal(ours, twin)
        assert 0 < int(ours.isinf().sum()) < ours.numel()


@pytest.mark.parametrize("vocabulary", [1, 63, 1000, 1025, 70_000])
def test_noise_of_a_hash(vocabulary: int, device: str) -> None:
    keys = torch.tensor([[0, 0], [-1, 2**31 - 1], [123_456_789, -(2**31)]], dtype=torch.int32, device=device)
    logits = random(3, vocabulary + 3, device=device)[:, :vocabulary]  # rows with something between them
    for temperature in (1.0, 0.3):
        ours, twin = both(lambda temperature=temperature: kernels.perturb(logits, keys, temperature))
        assert error(ours, twin) <= BOUNDS[torch.float32]
        assert float((ours - twin).abs().max()) < 1e-4


def test_embedding_is_exact(device: str) -> None:
    for columns in (1, 63, 1000):
        table = random(11, columns, dtype=torch.bfloat16, device=device)
        ids = torch.tensor([10, 0, 3], dtype=torch.int32, device=device)
        assert torch.equal(*both(lambda table=table, ids=ids: kernels.embed(ids, table)))
        codes = few_bits(11, columns, 8, device)
        assert torch.equal(*both(lambda table=codes, ids=ids: kernels.embed(ids, table)))
    stored = to_q8(random(11, 992, device=device))
    same = dense(stored).bfloat16()
    ours, twin = both(lambda: kernels.embed(ids, stored))
    assert torch.equal(twin, kernels.embed(ids, same))
    assert torch.equal(ours, twin) or (launching.INTERPRETED and error(ours, twin) <= BOUNDS[torch.bfloat16])


@pytest.mark.parametrize(("rows", "columns", "group"), [(3, 32, 32), (65, 192, 64), (16, 1024, 256)])
def test_four_bits_are_widened(rows: int, columns: int, group: int, device: str) -> None:
    weight = few_bits(rows, columns, 4, device, group)
    assert torch.equal(*both(lambda: kernels.widen(weight)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 1025), (65, 40)])
def test_sums_and_norms_of_many_rows(rows: int, columns: int, dtype: torch.dtype, device: str) -> None:
    x, gain = random(rows, columns, device=device), random(columns, dtype=dtype, device=device)
    for y in (None, random(rows, columns, dtype=dtype, device=device, seed=1)):
        (ours, our_norm), (twin, twin_norm) = both(lambda y=y: kernels.add_norm(x, y, gain, 1e-6, dtype))
        assert torch.equal(ours, twin)
        assert error(our_norm, twin_norm) <= BOUNDS[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "features"), [(1, 1), (3, 1025), (65, 40)])
def test_gate_and_up_of_many_rows(rows: int, features: int, dtype: torch.dtype, device: str) -> None:
    y = random(rows, 2 * features, dtype=dtype, device=device) * 30  # silu of -100 is no NaN
    assert error(*both(lambda: kernels.swiglu(y))) <= BOUNDS[dtype]


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [(torch.float32, 32), (torch.bfloat16, 16), pytest.param(torch.bfloat16, 4, marks=pytest.mark.gpu)],
    ids=str,
)
def test_a_row_does_not_depend_on_the_rows_beside_it(dtype: torch.dtype, bits: int, device: str) -> None:
    """Bit by bit: a block must decide as single tokens do, near-equal scores included."""
    k, n, heads, groups, width, start = 128, 32, 3, 1, 32, 13
    x = random(9, k, device=device)
    gain = random(k, dtype=dtype, device=device)

    def made(features: int) -> Any:
        return few_bits(features, k, bits, device) if bits < 16 else random(features, k, dtype=dtype, device=device)

    weight, heads_weight = made(2 * n), made((heads + 2 * groups) * width)
    rotation = random(64, width, device=device)
    cached = random(2, groups, 64, width, dtype=dtype, device=device)

    def rows(at: int, count: int, keys: Tensor, values: Tensor) -> list[Tensor]:
        some, place = slice(at, at + count), torch.tensor([start + at], dtype=torch.int32, device=device)
        q = kernels.norm_heads(x[some], gain, 1e-6, heads_weight, None, rotation, keys, values, place)
        found = kernels.attend(q, keys, values, place, 16)
        return [
            kernels.norm_linear(x[some], gain, 1e-6, weight),
            kernels.norm_swiglu(x[some], gain, 1e-6, weight),
            kernels.linear_add(x[some, : 2 * n], x[some].to(dtype), weight),
            kernels.merge(*found, place, 16, torch.float32),
        ]

    together = rows(0, 9, *cached.clone())
    for widths in ((1,) * 9, (2, 3, 4)):
        keys, values = cached.clone()
        at, apart = 0, []
        for count in widths:
            apart.append(rows(at, count, keys, values))
            at += count
        for whole, parts in zip(together, zip(*apart, strict=True), strict=True):
            assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x, w: kernels.norm_linear(x, w[0], 1e-6, w[:, ::2]), "gaps between its rows"),
        (lambda x, w: kernels.norm_linear(x, w[0], 1e-6, torch.ones(3, 5)), "rows of 4"),
        (lambda x, w: kernels.norm_linear(x, torch.ones(5), 1e-6, w), r"gain of shape \[5\]"),
        (lambda x, w: kernels.norm_linear(x, w[0], 1e-6, w, torch.ones(2)), r"bias of shape \[2\]"),
        (lambda x, w: kernels.norm_swiglu(x, w[0], 1e-6, w), "3 rows of gate and up"),
        (lambda x, w: kernels.swiglu(w[:, :3].contiguous()), "3 columns of gate and up"),
        (lambda x, w: kernels.linear_add(x, x, w), r"expected \[2, 3\]"),
        (lambda x, w: kernels.mask_logits(x, torch.ones(2, 2).int()), r"expected \[2, 1\] or \[1, 1\]"),
        (lambda x, w: kernels.embed(torch.ones(2), w), "ids is torch.float32"),
    ],
)
def test_misuse_names_the_value(call: Callable[..., Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(torch.ones(2, 4), torch.ones(3, 8)[:, :4] if "gaps" in words else torch.ones(3, 4))

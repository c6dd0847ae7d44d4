"""The ops of latent attention against their twins, from `test_pairs_block`'s table of bounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import kernels
from kernels import launching
from kernels.latent import Heads
from tests.kernels.test_pairs_block import BOUNDS, DTYPES, both, error, random

pytestmark = [
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),  # every launch here says which it wants
    *([] if launching.INTERPRETED else [pytest.mark.gpu]),
]

SMALL = Heads(10, 32, 32, 128, 64, 2048, 15)
"""What `viable-small` has."""
SHAPES = {
    "plain": Heads(3, 24, 16, 32, 21),
    "no-plain-part": Heads(5, 0, 32, 16, 32),  # what was converted
    "more-heads-than-a-tile": Heads(17, 9, 16, 16, 65),
    "near-and-far": Heads(4, 16, 16, 32, 32, 50, 8),
    "narrow-window": Heads(2, 63, 16, 64, 33, 1, 3),
    "wide": Heads(3, 16, 16, 256, 32),  # whose products are summed in parts
}
LARGE = {
    "viable-small": SMALL,
    "deepseek-v2-lite": Heads(16, 128, 64, 512, 128),
    "converted": Heads(14, 0, 128, 128, 64),
}
UNNORMED = ("no-plain-part", "more-heads-than-a-tile", "converted")
PLACES = [(0, 1), (14, 4), (70, 2), (99, 1)]
"""Start and rows, in a cache of 100."""


def cases() -> list[Any]:
    small = [
        pytest.param(of, *place, 100, 32, name not in UNNORMED, id=f"{name}-{place}")
        for name, of in SHAPES.items()
        for place in PLACES
    ]
    return small + [
        pytest.param(
            of,
            *place,
            4096,
            0,
            name not in UNNORMED,
            id=f"{name}-{place}",
            marks=pytest.mark.gpu,
        )
        for name, of in LARGE.items()
        for place in ((0, 1), (63, 5), (1000, 32), (4000, 3))
    ]


def table(of: Heads, capacity: int, device: str) -> Tensor:
    angles = random(of.places(capacity), of.rotary // 2)
    return torch.cat([angles.cos(), angles.sin()], -1).to(device)


def made_for(of: Heads, rows: int, device: str) -> tuple[Tensor, Tensor]:
    """Queries, latents and keys as one product gives them: parts of longer rows."""
    split = [of.heads * (of.plain + of.rotary), of.latent + of.rotary]
    queries, made = random(rows, sum(split), device=device).split(split, 1)
    return queries, made


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("of", "start", "rows", "capacity", "chunk", "normed"), cases())
def test_latent_attention(
    of: Heads, start: int, rows: int, capacity: int, chunk: int, normed: bool, dtype: torch.dtype, device: str
) -> None:
    chunk = chunk or of.chunk(dtype)
    queries, made = made_for(of, rows, device)
    up = random(of.heads * (of.plain + of.value), of.latent, dtype=dtype, device=device)
    gain = random(of.latent, dtype=dtype, device=device) if normed else None
    rotation = table(of, capacity, device)
    cached = random(capacity, of.row, dtype=dtype, device=device)
    cached[start:] = torch.nan  # nothing may be seen that no pass has written
    factors = (random(2, of.heads).abs() * (of.plain + of.rotary) ** -0.5 / of.latent**0.5).to(device)
    place = torch.tensor([start], dtype=torch.int32, device=device)

    def turned() -> tuple[Tensor, Tensor]:
        kept = cached.clone()
        return kernels.absorb(queries, made, gain, 1e-6, up, rotation, kept, place, of), kept

    (ours, our_rows), (twin, twin_rows) = both(turned)
    assert error(ours, twin) <= BOUNDS[dtype]
    assert error(our_rows[: start + rows], twin_rows[: start + rows]) <= BOUNDS[dtype]
    assert our_rows[start + rows :].isnan().all()

    def seen() -> Tensor:
        found = kernels.attend_latent(twin, twin_rows, factors, place, of, chunk)
        return kernels.merge_latent(*found, up, place, of, chunk, torch.float32)

    assert error(*both(seen)) <= BOUNDS[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_row_does_not_depend_on_the_rows_beside_it(dtype: torch.dtype, device: str) -> None:
    """Bit by bit, as `test_pairs_block` has it for the others."""
    of, start, chunk = SHAPES["near-and-far"], 45, 16
    queries, made = made_for(of, 9, device)
    up = random(of.heads * (of.plain + of.value), of.latent, dtype=dtype, device=device)
    gain, rotation = random(of.latent, dtype=dtype, device=device), table(of, 80, device)
    factors = random(2, of.heads, device=device) * 0.1
    cached = random(80, of.row, dtype=dtype, device=device)

    def rows(at: int, count: int, kept: Tensor) -> Tensor:
        some, place = slice(at, at + count), torch.tensor([start + at], dtype=torch.int32, device=device)
        asked = kernels.absorb(queries[some], made[some], gain, 1e-6, up, rotation, kept, place, of)
        found = kernels.attend_latent(asked, kept, factors, place, of, chunk)
        return kernels.merge_latent(*found, up, place, of, chunk, torch.float32)

    together = rows(0, 9, cached.clone())
    for widths in ((1,) * 9, (2, 3, 4)):
        kept, at, apart = cached.clone(), 0, []
        for count in widths:
            apart.append(rows(at, count, kept))
            at += count
        assert torch.equal(together, torch.cat(apart))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rotary": 24}, "rotary keys of width 24 have no fused kernels"),
        ({"latent": 8}, "latents of width 8 have no fused kernels"),
        ({"heads": 5}, r"factors of shape \[2, 4\]; expected \[2, 5\]"),
    ],
)
def test_misuse_names_the_value(change: dict[str, int], words: str) -> None:
    of = SHAPES["near-and-far"]._replace(**change)
    queries, kept, start = torch.ones(1, of.heads, of.row), torch.ones(8, of.row), torch.zeros(1, dtype=torch.int32)
    with pytest.raises(ValueError, match=words):
        kernels.attend_latent(queries, kept, torch.ones(2, 4), start, of, 16)

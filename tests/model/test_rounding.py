"""Four bits: grids that are tried and fitted, those of a checkpoint found again, and what keeps eight."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import model
from kernels.weights import dense, four
from model.errors import BadWeights
from model.loaders.ggml import KINDS
from model.quantised import Int4Linear, Int8Linear
from model.rounding import GROUP, finer, to_int4
from tests.tiny import write_tiny_gguf


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rounded(rows: Tensor, rounds: int = 2) -> Tensor:
    found = to_int4(rows, rounds)
    assert found.codes.dtype == torch.uint8 and found.codes.max() <= 15 and found.codes.shape == rows.shape
    for factors in found[1:]:
        assert factors.dtype == torch.bfloat16 and factors.shape == (len(rows), rows.shape[1] // GROUP)
    return dense(four(*found))


def errors(rows: Tensor, made: Tensor) -> Tensor:
    """Squared, of every group."""
    return (made - rows).unflatten(-1, (-1, GROUP)).square().sum(-1)


def spanned(rows: Tensor) -> Tensor:
    """Plain rounding: sixteen numbers from a group's lowest to its highest, in bfloat16 steps."""
    x = rows.unflatten(-1, (-1, GROUP))
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    steps = ((high - low) / 15).clamp(min=1e-12)
    offsets = (low + 8 * steps).bfloat16().float()
    steps = steps.bfloat16().float()
    return (((x - offsets) / steps).round().clamp(-8, 7) * steps + offsets).flatten(-2)


@given(
    st.integers(1, 7), st.integers(1, 5), st.floats(-6, 3), st.sampled_from([1.0, 0.3, 0.05]), st.integers(0, 1 << 30)
)
def test_it_is_never_further_than_plain_rounding(count: int, groups: int, size: float, share: float, seed: int) -> None:
    rows = torch.randn(count, groups * GROUP, generator=generator(seed)) * 10**size
    rows *= torch.rand(rows.shape, generator=generator(seed + 1)) < share  # zeros among them, and whole groups
    ours, plain = errors(rows, rounded(rows)), errors(rows, spanned(rows))
    # The sum that decides is another order of the same numbers.
    assert (ours <= plain * (1 + 1e-5)).all()


def test_fitting_helps_and_so_do_more_grids() -> None:
    rows = torch.randn(40, 128, generator=generator(2))
    plain, tried, fitted = (
        float(errors(rows, made).sum()) for made in (spanned(rows), rounded(rows, 0), rounded(rows))
    )
    assert fitted < 0.97 * tried and tried < 0.93 * plain


def test_constant_groups_are_exact() -> None:
    rows = torch.tensor([0.0, 0.5, -3.0]).repeat_interleave(GROUP).unsqueeze(0)
    assert torch.equal(rounded(rows), rows)


def test_a_grid_of_sixteen_numbers_in_bfloat16_is_found_again() -> None:
    codes = torch.randint(16, (50, GROUP), generator=generator(3))
    codes[:, :2] = torch.tensor([0, 15])
    codes[25:] = codes[25:].clamp(max=14)  # as often in Q4_K
    steps = torch.rand(50, 1, generator=generator(4)).bfloat16().float() + 0.0078125
    steps = steps.bfloat16().float()
    rows = codes * steps - 8 * steps
    assert torch.equal(rounded(rows), rows)


def blocks(kind: str, rows: int) -> Tensor:
    """Numbers of a GGML format, random but for its fp16 factors and the code of its largest magnitude."""
    (found,) = (each for each in KINDS.values() if each.name == kind)
    raw = torch.randint(256, (rows, 3, found.size), generator=generator(5)).to(torch.uint8)
    factors = (0.01 + 0.01 * torch.rand(rows, 3, 2, generator=generator(6))).half().view(torch.uint8)
    count = 4 if kind.endswith("K") else 2
    raw[..., :count] = factors[..., :count]
    if kind == "Q5_0":
        raw[..., 2] &= 254
    if kind != "Q4_K":
        raw[..., count + 4 * (kind == "Q5_0")] &= 240
    return found.numbers(raw.flatten(-2)).float()


@pytest.mark.parametrize(("kind", "most"), [("Q4_0", 4e-3), ("Q4_K", 4e-3)])
def test_four_bits_of_a_checkpoint_stay_what_they_are(kind: str, most: float) -> None:
    """But for their factors, which become bfloat16: 2^-9 of each."""
    rows = blocks(kind, 64)
    # Where a block has neither both ends of its grid nor all but one, another grid may be as near.
    off = (errors(rows, rounded(rows)) / errors(rows, torch.zeros_like(rows)).clamp(min=1e-12)).sqrt()
    before = (errors(rows, spanned(rows)) / errors(rows, torch.zeros_like(rows)).clamp(min=1e-12)).sqrt()
    assert float(off.median()) < most and float((off < 2 * most).float().mean()) > 0.8
    assert float(off.mean()) < 0.5 * float(before.mean())


def test_five_bits_of_a_checkpoint_share_sixteen_numbers() -> None:
    rows = blocks("Q5_0", 64)  # codes of all sizes alike: two neighbours to a number is the best there is
    steps = rows.unflatten(-1, (-1, GROUP)).abs().amax(-1) / 16
    assert (errors(rows, rounded(rows)) <= GROUP * (0.53 * steps).square()).all()
    assert float(errors(rows, rounded(rows)).sum()) < 0.8 * float(errors(rows, spanned(rows)).sum())


def test_it_is_the_same_every_time_and_row_by_row() -> None:
    rows = torch.randn(33, 96, generator=generator(7))
    whole = to_int4(rows)
    for part, again in zip(whole, to_int4(rows.clone()), strict=True):
        assert torch.equal(part, again)
    for number in (0, 17, 32):
        for part, alone in zip(whole, to_int4(rows[number : number + 1]), strict=True):
            assert torch.equal(part[number : number + 1], alone)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    rows = torch.zeros(3, 64)
    rows[2, 40] = bad
    with pytest.raises(BadWeights, match="NaN or infinity"):
        to_int4(rows)


def test_no_rows_are_no_rows() -> None:
    assert [len(part) for part in to_int4(torch.empty(0, 64))] == [0, 0, 0]


def test_which_layers_keep_eight_bits() -> None:
    paths = ("attention.qkv", "attention.out", "feed_forward.gate_up", "feed_forward.down")
    found = finer([f"blocks.{i}.{path}" for i in range(24) for path in paths])
    more = {f"blocks.{i}.attention.out" for i in (0, 1, 2, 21, 22, 23)} | {"blocks.23.feed_forward.gate_up"}
    assert found == {f"blocks.{i}.attention.qkv" for i in range(24)} | more
    # The last layer has experts here, and a multi-token module's names begin otherwise.
    assert finer(["blocks.0.feed_forward.gate_up", "blocks.1.attention.down", "blocks.1.attention.out"]) == set()
    assert finer(["depths.0.block.attention.qkv", "depths.0.projection"]) == {"depths.0.block.attention.qkv"}


def test_a_decoder_has_both(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path, width=64, heads=4, groups=2, layers=3, feed_forward=96)
    decoder = model.load(path, dtype="int4")
    kinds = {name: type(each) for name, each in decoder.named_modules() if isinstance(each, Int4Linear | Int8Linear)}
    few = {name for name, kind in kinds.items() if kind is Int4Linear}
    assert few == {
        f"blocks.{i}.{end}"
        for i in range(3)
        for end in ("attention.out", "feed_forward.gate_up", "feed_forward.down")
        if (i, end) != (2, "feed_forward.gate_up")
    }
    again = model.load(path, dtype="int4")
    ids = torch.randint(256, (1, 21), generator=generator(8))
    assert torch.equal(decoder(ids), again(ids))

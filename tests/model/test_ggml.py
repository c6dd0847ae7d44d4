"""Each block format against the gguf package's own reading of the same bytes."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from model.errors import UnsupportedModel
from model.loaders import ggml

KINDS = sorted(ggml.KINDS.items())


@pytest.mark.parametrize(("number", "kind"), KINDS, ids=[kind.name for _, kind in KINDS])
@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (3, 5), (17, 2)])
def test_numbers_equal_the_gguf_package(number: int, kind: ggml.Kind, rows: int, blocks: int) -> None:
    random = np.random.default_rng(number)
    shape = (rows, blocks * kind.values)
    if kind.quantised:
        raw = random.integers(0, 256, (rows, blocks * kind.size), dtype=np.uint8)
        raw &= 0xBF  # clears the top bit of every exponent: factors stay finite
    else:
        raw = gguf.quantize(random.normal(size=shape).astype(np.float32), gguf.GGMLQuantizationType(number))
    theirs = gguf.dequantize(raw, gguf.GGMLQuantizationType(number))
    ours = kind.numbers(torch.from_numpy(raw.view(np.uint8).reshape(rows, -1).copy()))
    assert ours.shape == shape
    np.testing.assert_allclose(ours.float().numpy(), theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("number", "kind"), KINDS, ids=[kind.name for _, kind in KINDS])
def test_block_sizes_equal_the_gguf_package(number: int, kind: ggml.Kind) -> None:
    assert (kind.values, kind.size) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(number)]
    assert kind.name == gguf.GGMLQuantizationType(number).name


def test_every_kind_that_is_not_read_is_refused_by_name() -> None:
    for number in set(gguf.GGMLQuantizationType) - set(ggml.KINDS):
        with pytest.raises(UnsupportedModel, match=rf"tensor x is stored as kind {int(number)} \("):
            ggml.kind(int(number), "x")
    with pytest.raises(UnsupportedModel, match="Q2_K"):
        ggml.kind(gguf.GGMLQuantizationType.Q2_K, "x")
    with pytest.raises(UnsupportedModel, match=r"999 \(unknown\)"):
        ggml.kind(999, "x")

"""GGML's block formats: how many bytes a block of a row takes, and what numbers it stands for.

A row of a quantised tensor is a run of blocks; each block holds `values` numbers in `size` bytes. Source: the block
structs and dequantisation loops of ggml (ggml-common.h, ggml-quants.c). `tests/model/test_ggml.py` holds every
format equal to the `gguf` package's own NumPy version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.errors import UnsupportedModel


@dataclass(frozen=True)
class Kind:
    """One storage format of numbers."""

    name: str
    values: int  # per block
    size: int  # bytes per block
    decode: Callable[[Tensor], Tensor]  # uint8 [..., blocks, size] -> numbers [..., blocks, values]
    factors: tuple[int, ...] = ()  # the bytes of a quantised block where an fp16 factor begins

    @property
    def quantised(self) -> bool:
        return self.values > 1

    def row_bytes(self, columns: int) -> int:
        """Bytes of a row of `columns` numbers; columns must be a multiple of `values`."""
        return columns // self.values * self.size

    def numbers(self, raw: Tensor) -> Tensor:
        """uint8 [..., row bytes] -> [..., columns]: the stored floats as they are, quantised ones in fp32."""
        blocks = raw.unflatten(-1, (-1, self.size))
        return self.decode(blocks).flatten(-2)

    def deciding(self, raw: Tensor) -> Tensor:
        """uint8 [..., row bytes] -> what is finite just where all the numbers are: these, or their blocks' factors."""
        blocks = raw.unflatten(-1, (-1, self.size))
        return torch.cat([_half(blocks, start) for start in self.factors], -1) if self.factors else self.decode(blocks)


def _plain(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda blocks: blocks.contiguous().view(dtype)


def _half(blocks: Tensor, start: int) -> Tensor:
    """The fp16 number at byte `start` of each block, as fp32 [..., 1]."""
    return blocks[..., start : start + 2].contiguous().view(torch.float16).float()


def _nibbles(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Low and high four bits of each byte."""
    return packed & 15, packed >> 4


def _bits(packed: Tensor, values: int) -> Tensor:
    """uint8 [..., n] -> the 8n bits, least significant first, as uint8 0 or 1 [..., values]."""
    shifts = torch.arange(8, dtype=torch.uint8)
    return ((packed.unsqueeze(-1) >> shifts) & 1).flatten(-2)[..., :values]


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * blocks[..., 2:].view(torch.int8)


def _q4_0(blocks: Tensor) -> Tensor:
    codes = torch.cat(_nibbles(blocks[..., 2:]), -1)
    return _half(blocks, 0) * (codes.to(torch.int8) - 8)


def _q5_0(blocks: Tensor) -> Tensor:
    codes = torch.cat(_nibbles(blocks[..., 6:]), -1) | (_bits(blocks[..., 2:6], 32) << 4)
    return _half(blocks, 0) * (codes.to(torch.int8) - 16)


def _six_bit_scales(packed: Tensor) -> tuple[Tensor, Tensor]:
    """12 bytes -> eight 6-bit scales and eight 6-bit minima, each [..., 8]."""
    low, mid, high = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scales = torch.cat([low & 63, (high & 15) | ((low >> 6) << 4)], -1)
    minima = torch.cat([mid & 63, (high >> 4) | ((mid >> 6) << 4)], -1)
    return scales.float(), minima.float()


def _affine(blocks: Tensor, codes: Tensor) -> Tensor:
    """Eight groups of 32 codes under one pair of fp16 factors: d·scale·code − dmin·minimum."""
    scales, minima = _six_bit_scales(blocks[..., 4:16])
    steps = (_half(blocks, 0) * scales).unsqueeze(-1)
    offsets = (_half(blocks, 2) * minima).unsqueeze(-1)
    numbers: Tensor = steps * codes.unflatten(-1, (8, 32)) - offsets
    return numbers.flatten(-2)


def _q4_k(blocks: Tensor) -> Tensor:
    packed = blocks[..., 16:].unflatten(-1, (4, 32))
    return _affine(blocks, torch.stack(_nibbles(packed), -2).flatten(-3))


def _q5_k(blocks: Tensor) -> Tensor:
    packed = blocks[..., 48:].unflatten(-1, (4, 32))
    shifts = torch.arange(8, dtype=torch.uint8).unsqueeze(-1)
    fifth = ((blocks[..., 16:48].unsqueeze(-2) >> shifts) & 1).flatten(-2)
    return _affine(blocks, torch.stack(_nibbles(packed), -2).flatten(-3) | (fifth << 4))


def _q6_k(blocks: Tensor) -> Tensor:
    # Two halves of 128 codes; each takes 64 bytes of low nibbles and 32 bytes of high bit pairs.
    low = blocks[..., :128].unflatten(-1, (2, 1, 64))
    low = torch.cat([low & 15, low >> 4], -2).unflatten(-1, (2, 32))  # [..., half, nibble, 2, 32]
    shifts = torch.tensor([[0, 2], [4, 6]], dtype=torch.uint8).unsqueeze(-1)
    high = blocks[..., 128:192].unflatten(-1, (2, 1, 1, 32)) >> shifts & 3
    codes = (low | (high << 4)).flatten(-4).to(torch.int8) - 32
    scales = blocks[..., 192:208].view(torch.int8).float()
    steps = (_half(blocks, 208) * scales).unsqueeze(-1)
    numbers: Tensor = steps * codes.unflatten(-1, (16, 16))
    return numbers.flatten(-2)


def codes_and_scales(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of Q8_0, uint8 [N, row bytes] -> codes int8 [N, K] and scales fp16 [N, K/32]."""
    blocks = rows.unflatten(-1, (-1, Q8_0.size))
    scales = blocks[..., :2].contiguous().view(torch.float16).squeeze(-1)
    return blocks[..., 2:].contiguous().view(torch.int8).flatten(-2), scales


F32 = Kind("F32", 1, 4, _plain(torch.float32))
Q8_0 = Kind("Q8_0", 32, 34, _q8_0, (0,))

KINDS: dict[int, Kind] = {
    0: F32,
    1: Kind("F16", 1, 2, _plain(torch.float16)),
    2: Kind("Q4_0", 32, 18, _q4_0, (0,)),
    6: Kind("Q5_0", 32, 22, _q5_0, (0,)),
    8: Q8_0,
    12: Kind("Q4_K", 256, 144, _q4_k, (0, 2)),
    13: Kind("Q5_K", 256, 176, _q5_k, (0, 2)),
    14: Kind("Q6_K", 256, 210, _q6_k, (208,)),
    30: Kind("BF16", 1, 2, _plain(torch.bfloat16)),
}

# Formats that exist but are not read here, so that a refusal can name them.
_OTHERS = {
    **{3: "Q4_1", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS"},
    **{18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16"},
    **{26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4"},
}


def kind(number: int, tensor: str) -> Kind:
    """The format with ggml's `number`; UnsupportedModel names it and the tensor."""
    if number not in KINDS:
        name = _OTHERS.get(number, "unknown")
        known = ", ".join(k.name for k in KINDS.values())
        raise UnsupportedModel(f"tensor {tensor} is stored as kind {number} ({name}); known: {known}")
    return KINDS[number]

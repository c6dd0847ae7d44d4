"""Tensors in, tensors out: the ops that have more than one implementation.

Each function here states shapes and dtypes and checks them once for every backend; `kernels.backend` chooses which one
runs. Letters: N features out, K features in; `...` any leading dimensions, together M rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels import backend
from kernels.backend import Packed
from kernels.block import (
    add_norm,
    attend,
    embed,
    finish,
    keep,
    linear_add,
    mask_logits,
    merge,
    norm_heads,
    norm_linear,
    norm_swiglu,
    perturb,
    swiglu,
    turn,
    widen,
)
from kernels.drafting import join_first, join_on, join_second, settle
from kernels.experts import experts_add, experts_swiglu, route
from kernels.latent import absorb, attend_latent, merge_latent
from kernels.layer import kind_problem, layer, layer_problem, pack_layer, prepare_layers
from kernels.ranking import norm_scores, rank
from kernels.stored import pack_stored, packs_stored, prepare_stored

__all__ = [
    "Packed",
    "absorb",
    "add_norm",
    "attend",
    "attend_latent",
    "embed",
    "expert_linear",
    "experts_add",
    "experts_swiglu",
    "finish",
    "int4_linear",
    "int8_linear",
    "join_first",
    "join_on",
    "join_second",
    "keep",
    "kind_problem",
    "layer",
    "layer_problem",
    "linear_add",
    "mask_logits",
    "merge",
    "merge_latent",
    "norm_heads",
    "norm_int8_linear",
    "norm_linear",
    "norm_scores",
    "norm_swiglu",
    "pack_int4",
    "pack_int8",
    "pack_layer",
    "pack_stored",
    "packs_stored",
    "perturb",
    "prepare_layers",
    "prepare_stored",
    "rank",
    "rms_norm",
    "route",
    "settle",
    "swiglu",
    "turn",
    "widen",
]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight, over the last dimension, computed in fp32.

    x: [..., K], any float dtype. weight: [K]. Returns [..., K] in weight's dtype.
    Source: Zhang & Sennrich, "Root Mean Square Layer Normalization", 2019.
    """
    if weight.shape != x.shape[-1:]:
        raise ValueError(f"weight of shape {list(weight.shape)} for rows of {x.shape[-1]}")
    y: Tensor = backend.implementation("rms_norm", x.device.type).rms_norm(x, weight, eps)
    return y


def pack_int8(codes: Tensor, scales: Tensor, narrow: bool = False) -> Packed:
    """The matrix codes · scales[:, None] in the layout that `int8_linear` reads quickest.

    codes: int8 [N, K], -127 … 127. scales: fp32 [N], one per row. Backends may keep `codes` itself: do not write to it.
    narrow: so few rows or columns that starting some products takes longer than others take.
    """
    _expect("codes", codes, torch.int8, 2)
    _expect("scales", scales, torch.float32, 1)
    if len(scales) != len(codes):
        raise ValueError(f"{len(scales)} scales for {len(codes)} rows")
    device = codes.device.type
    wanted = next(name for name in backend.backends("int8_linear", device) if name != "onednn") if narrow else None
    return backend.packed("int8_linear", device, tuple(codes.shape), codes, scales, wanted=wanted)


def int8_linear(x: Tensor, weight: Packed, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b with eight-bit weights: [..., K] -> fp32 [..., N].

    x: any float dtype. bias: [N] or None. Backends may round each row of x to fewer bits by its own largest magnitude,
    but no row's result depends on the other rows.
    """
    _expect_columns(x, weight)
    y: Tensor = weight.implementation.int8_linear(x, weight.data, bias)
    return y


def norm_int8_linear(x: Tensor, gain: Tensor, eps: float, weight: Packed) -> Tensor:
    """rms_norm(x, gain, eps) Wᵀ with eight-bit weights, [..., K] -> fp32 [..., N]: in one call where there is one."""
    _expect_columns(x, weight)
    if gain.shape != x.shape[-1:]:
        raise ValueError(f"a gain of shape {list(gain.shape)} for rows of {x.shape[-1]}")
    if not hasattr(weight.implementation, "norm_int8_linear"):
        return int8_linear(rms_norm(x, gain, eps), weight)
    y: Tensor = weight.implementation.norm_int8_linear(x, gain, eps, weight.data)
    return y


def pack_int4(codes: Tensor, steps: Tensor, offsets: Tensor) -> Packed:
    """The matrix (codes - 8) · steps + offsets in the layout that `int4_linear` reads quickest.

    K/g neighbouring columns of a row share a step and an offset.
    codes: uint8 [N, K], 0 … 15. steps, offsets: bfloat16 [N, g]. N is a multiple of 16.
    """
    _expect("codes", codes, torch.uint8, 2)
    _expect("steps", steps, torch.bfloat16, 2)
    _expect("offsets", offsets, torch.bfloat16, 2)
    rows, columns = codes.shape
    if steps.shape != offsets.shape or len(steps) != rows or columns % steps.shape[1]:
        raise ValueError(f"steps {list(steps.shape)}, offsets {list(offsets.shape)} for {rows} × {columns} codes")
    if columns // steps.shape[1] not in GROUPS or rows % 16:
        raise ValueError(f"{rows} rows in groups of {columns // steps.shape[1]}; expected 16n rows, groups in {GROUPS}")
    return backend.packed("int4_linear", codes.device.type, (rows, columns), codes, steps, offsets)


GROUPS = (32, 64, 128, 256)  # columns that share a step and an offset


def int4_linear(x: Tensor, weight: Packed, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b with four-bit weights: [..., K] -> fp32 [..., N].

    x: any float dtype; backends may round it to bfloat16. bias: [N] or None.
    """
    _expect_columns(x, weight)
    y: Tensor = weight.implementation.int4_linear(x, weight.data, bias)
    return y


def expert_linear(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Rows times the matrix of their expert: x [M, K], weight [E, N, K], ends int32 [E] -> [M, N], in x's dtype.

    x and weight have one dtype, at most fp32; under autocast, autocast's. Expert e has the rows ends[e - 1] …
    ends[e] - 1 of x, the first from row 0; an expert without rows is not read. What comes of the rows behind the last
    expert's is undefined. Differentiable in x and in weight.
    """
    _expect("ends", ends, torch.int32, 1)
    if weight.dim() != 3 or x.dim() != 2 or x.shape[1] != weight.shape[2] or len(ends) != len(weight):
        raise ValueError(f"rows {list(x.shape)} for experts {list(weight.shape)} with {len(ends)} ends")
    y: Tensor = backend.implementation("expert_linear", x.device.type).expert_linear(x, weight, ends)
    return y


def _expect(name: str, x: Tensor, dtype: torch.dtype, dimensions: int) -> None:
    if x.dtype != dtype or x.dim() != dimensions:
        raise ValueError(f"{name} is {x.dtype} {list(x.shape)}; expected {dtype} of {dimensions} dimensions")


def _expect_columns(x: Tensor, weight: Packed) -> None:
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"rows of {x.shape[-1]} for a matrix of shape {list(weight.shape)}")

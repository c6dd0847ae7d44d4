"""The ops of one block of few tokens, from ids to the best next ids, for a whole decoder layer by layer.

They are what a GPU needs when it computes one token, or three, at a time: nothing between two products goes through
memory that need not, and nothing is longer than the weights it reads. The residual stream is fp32.

Letters: R rows (tokens of the block), K features in, N features out, H heads, G groups, D head width, S capacity of
the cache, C chunks of it, V vocabulary. Position `start` of the first row is a tensor, int32 [1], so that one recorded
graph serves every position.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels import backend
from kernels.weights import Eight, Four, Weight, shape_of

MOST_IDS = 32
"""Ids that `top_ids` can rank."""


def embed(ids: Tensor, table: Tensor | Eight) -> Tensor:
    """Rows of a table: ids int32 [R], table [V, K] -> fp32 [R, K]."""
    _expect("ids", ids, 1, torch.int32)
    codes = table.codes if isinstance(table, Eight) else table
    _expect("table", codes, 2)
    _solid("table", codes)
    y: Tensor = _run("embed", codes).embed(ids, table)
    return y


def norm_linear(x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """rms_norm(x, gain) Wᵀ + b: x [R, K], gain [K], weight [N, K], bias [N] -> fp32 [R, N]."""
    _expect_product(x, weight, bias, gain)
    y: Tensor = _run("norm_linear", x).norm_linear(x, gain, eps, weight, bias)
    return y


def norm_swiglu(x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """silu(gate) · up of rms_norm(x, gain): x [R, K], gain [K], weight [2N, K], gate before up, bias [2N] -> [R, N].

    The result has the weight's dtype, or bfloat16 where the weight is in fewer bits.
    """
    _expect_product(x, weight, bias, gain)
    if shape_of(weight)[0] % 2:
        raise ValueError(f"{shape_of(weight)[0]} rows of gate and up; expected an even number")
    y: Tensor = _run("norm_swiglu", x).norm_swiglu(x, gain, eps, weight, bias)
    return y


def linear_add(x: Tensor, inner: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """x + inner Wᵀ + b: x [R, N], inner [R, K], weight [N, K], bias [N] -> fp32 [R, N]."""
    _expect_product(inner, weight, bias)
    expected = [len(inner), shape_of(weight)[0]]
    if list(x.shape) != expected:
        raise ValueError(f"x of shape {list(x.shape)}; expected {expected}")
    y: Tensor = _run("linear_add", x).linear_add(x, inner, weight, bias)
    return y


def attend(
    qkv: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, start: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """Rotary positions, new rows into the cache, and attention over each chunk of keys by itself.

    qkv: fp32 [R, (H + 2G)·D], queries, keys, values. rotation: fp32 [S, D], cosines then sines of D/2 angles.
    keys, values: [G, S, D]; rows start … start + R - 1 are written, and row i sees those up to start + i.
    Returns means of values fp32 [R, H, C, D], and the log2 of the sums that they were divided by, fp32 [R, H, C].
    What a row does not see is not written. `merge` puts them together.
    Source: Dao et al., "Flash-Decoding for long-context inference", 2023; the chunks lie at fixed places.
    """
    _expect("qkv", qkv, 2, torch.float32)
    _expect("rotation", rotation, 2, torch.float32)
    _expect("start", start, 1, torch.int32)
    _expect("keys", keys, 3)
    groups, capacity, width = keys.shape
    if values.shape != keys.shape or values.dtype != keys.dtype:
        raise ValueError(f"values {values.dtype} {list(values.shape)} for keys {keys.dtype} {list(keys.shape)}")
    if width % 32 or width & (width - 1):
        raise ValueError(f"heads of width {width}; expected a power of two, 32 or more")
    if qkv.shape[1] % width or (qkv.shape[1] // width) % groups or qkv.shape[1] // width <= 2 * groups:
        raise ValueError(f"rows of {qkv.shape[1]} for {groups} groups of width {width}")
    if rotation.shape[0] < capacity or rotation.shape[1] != width:
        raise ValueError(f"rotation of shape {list(rotation.shape)}; expected {[capacity, width]}")
    if chunk < 16 or chunk & (chunk - 1):
        raise ValueError(f"chunks of {chunk} keys; expected a power of two, 16 or more")
    found: tuple[Tensor, Tensor] = _run("attend", qkv).attend(
        qkv, _solid("rotation", rotation), _solid("keys", keys), _solid("values", values), start, chunk
    )
    return found


def merge(means: Tensor, sums: Tensor, start: Tensor, chunk: int, dtype: torch.dtype) -> Tensor:
    """What `attend` found in its chunks, put together: [R, H, C, D] and [R, H, C] -> [R, H·D] in `dtype`."""
    _expect("means", means, 4, torch.float32)
    _expect("sums", sums, 3, torch.float32)
    _expect("start", start, 1, torch.int32)
    y: Tensor = _run("merge", means).merge(means, sums, start, chunk, dtype)
    return y


def top_ids(logits: Tensor, count: int) -> Tensor:
    """The best ids of each row, best first, the lower id first among equals: fp32 [R, V] -> int32 [R, count]."""
    _expect("logits", logits, 2, torch.float32)
    if not 1 <= count <= min(MOST_IDS, logits.shape[1]):
        raise ValueError(f"{count} ids of {logits.shape[1]}; expected 1 to {min(MOST_IDS, logits.shape[1])}")
    y: Tensor = _run("top_ids", logits).top_ids(logits, count)
    return y


def mask_logits(logits: Tensor, mask: Tensor) -> Tensor:
    """Minus infinity, in place, where an id may not follow: fp32 [R, V].

    mask: int32 [R, ⌈V/32⌉] or [1, ⌈V/32⌉]; bit i of word w says whether id 32w + i may.
    """
    _expect("logits", logits, 2, torch.float32)
    _expect("mask", mask, 2, torch.int32)
    words = -(-logits.shape[1] // 32)
    if mask.shape not in ((len(logits), words), (1, words)):
        raise ValueError(f"mask of shape {list(mask.shape)}; expected {[len(logits), words]} or {[1, words]}")
    if logits.stride(1) != 1:
        raise ValueError("logits whose rows have gaps; they are changed in place")
    y: Tensor = _run("mask_logits", logits).mask_logits(logits, _solid("mask", mask))
    return y


def _run(op: str, x: Tensor) -> Any:
    return backend.implementation(op, x.device.type)


def _expect(name: str, x: Tensor, dimensions: int, dtype: torch.dtype | None = None) -> None:
    if x.dim() != dimensions or (dtype is not None and x.dtype != dtype):
        wanted = f"{dtype or 'a tensor'} of {dimensions} dimensions"
        raise ValueError(f"{name} is {x.dtype} {list(x.shape)}; expected {wanted}")


def _expect_product(x: Tensor, weight: Weight, bias: Tensor | None, gain: Tensor | None = None) -> None:
    _expect("x", x, 2)
    for part in weight[:2] if isinstance(weight, Eight | Four) else (weight,):
        _solid("weight", part)
    rows, columns = shape_of(weight)
    if x.shape[1] != columns:
        raise ValueError(f"rows of {x.shape[1]} for a matrix of shape {[rows, columns]}")
    if bias is not None and list(bias.shape) != [rows]:
        raise ValueError(f"bias of shape {list(bias.shape)} for a matrix of shape {[rows, columns]}")
    if gain is not None and list(gain.shape) != [columns]:
        raise ValueError(f"gain of shape {list(gain.shape)} for rows of {columns}")


def _solid(name: str, x: Tensor) -> Tensor:
    """What is large is never copied unasked."""
    if not x.is_contiguous():
        raise ValueError(f"{name} has gaps between its rows; make it contiguous once, before it is used")
    return x

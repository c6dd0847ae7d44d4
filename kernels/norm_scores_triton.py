"""Scores by `norm_linear`, then the highest of each segment of them."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels import norm_linear_triton
from kernels.launching import options
from kernels.ranking import Scores
from kernels.weights import Head

SEGMENT = 128


@triton.jit
def _kernel(logits_ptr, tops_ptr, V, SEGMENT: tl.constexpr, OVERLAP: tl.constexpr):
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    segment = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    v = segment * SEGMENT + tl.arange(0, SEGMENT)
    scores = tl.load(logits_ptr + row * V + v, mask=v < V, other=float("-inf"))
    tl.store(tops_ptr + row * tl.num_programs(0) + segment, tl.max(scores, 0))


def norm_scores(x: Tensor, gain: Tensor, eps: float, weight: Head, bias: Tensor | None, at: Tensor | None) -> Scores:
    some = x if at is None else x.index_select(0, at)
    logits = norm_linear_triton.norm_linear(some, gain, eps, weight, bias)
    rows, vocabulary = logits.shape
    tops = torch.empty(rows, triton.cdiv(vocabulary, SEGMENT), dtype=torch.float32, device=x.device)
    _kernel[tops.shape[::-1]](logits, tops, vocabulary, SEGMENT=SEGMENT, **options(1))
    return Scores(logits, tops, SEGMENT)

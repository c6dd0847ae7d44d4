"""Which ids may not follow, struck out: one program for each row and segment, which reads the bits of its ids."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options

SEGMENT = 1024


@triton.jit
def _kernel(logits_ptr, mask_ptr, V, stride, words, SEGMENT: tl.constexpr, OVERLAP: tl.constexpr):
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    row = tl.program_id(1).to(tl.int64)
    v = tl.program_id(0) * SEGMENT + tl.arange(0, SEGMENT)
    bits = tl.load(mask_ptr + row * words + v // 32, mask=v < V, other=-1)
    refused = ((bits >> (v % 32)) & 1) == 0
    # Only what is refused is written: the scores themselves need not be read.
    tl.store(logits_ptr + row * stride + v, float("-inf"), mask=refused & (v < V))


def mask_logits(logits: Tensor, mask: Tensor) -> Tensor:
    rows, vocabulary = logits.shape
    words = 0 if len(mask) == 1 else mask.shape[1]
    _kernel[(triton.cdiv(vocabulary, SEGMENT), rows)](
        logits, mask, vocabulary, logits.stride(0), words, SEGMENT=SEGMENT, **options(4)
    )
    return logits

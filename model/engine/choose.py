"""Which scorer a decoder gets."""

from __future__ import annotations

import logging

import torch

from model import gpu
from model.decoder import Decoder
from model.engine.graph_scorer import GraphScorer
from model.engine.pace import STEADY, Pace, Steady
from model.engine.scorer import CachedScorer
from model.errors import ModelUsageError
from model.quantised import Int4Linear, Int8Linear

log = logging.getLogger(__name__)


def pace_of(decoder: Decoder) -> Pace | Steady:
    """Threads may become fewer where that changes no bit: sums of whole numbers, and attention row by row."""
    exact = isinstance(decoder.projection, Int8Linear | Int4Linear)
    plain = decoder.config.experts is None and decoder.config.latent is None
    return Pace(torch.get_num_threads()) if exact and plain else STEADY


def scorer_for(decoder: Decoder, capacity: int) -> CachedScorer | GraphScorer:
    """The quickest scorer for a decoder on its device, ready for the first request; what it is, is logged.

    ModelUsageError says what is missing where the decoder is on a GPU that cannot run the kernels, or does not fit it.
    """
    if decoder.device.type == "cpu":
        return CachedScorer(decoder, capacity, pace_of(decoder))
    if problem := gpu.problem():
        raise ModelUsageError(f"{problem}; --device cpu computes on the processor")
    # cuDNN plans attention anew for every shape, and here shapes grow with every token: see docs/gpu.md, Figures.
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        if reason := gpu.unsupported(decoder):
            log.info("blocks are computed module by module: %s", reason)
            return CachedScorer(decoder, capacity)
        scorer = GraphScorer(decoder, capacity)
        scorer.warm()
    except torch.OutOfMemoryError:
        free, total = (round(size / 1e9, 1) for size in torch.cuda.mem_get_info())
        raise ModelUsageError(
            f"the GPU's memory is full ({free} of {total} GB free); a smaller context or --device cpu needs less"
        ) from None
    log.info("blocks are computed by fused kernels, recorded")
    return scorer

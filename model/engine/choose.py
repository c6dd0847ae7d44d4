"""Which scorer a decoder gets."""

from __future__ import annotations

import logging

import torch

from model import gpu
from model.decoder import Decoder
from model.engine.graph_scorer import GraphScorer
from model.engine.pace import STEADY, Pace, Steady
from model.engine.scorer import CachedScorer
from model.engine.shared import SharedPasses, SharedScorer
from model.errors import ModelUsageError
from model.lora import Switch
from model.one_call import OneCall
from model.quantised import few_bits

log = logging.getLogger(__name__)


def pace_of(decoder: Decoder) -> Pace | Steady:
    """Threads may become fewer where that changes no bit: sums of whole numbers, and attention row by row."""
    exact = few_bits(decoder.projection)
    plain = decoder.config.experts is None and decoder.config.latent is None
    alone = all(isinstance(block, OneCall) and block.takes_all for block in decoder.blocks)
    return Pace(torch.get_num_threads()) if exact and (plain or alone) else STEADY


def gains_together(decoder: Decoder) -> bool:
    """Do several texts that share their passes take less time than one after the other?

    On a processor whose products read each weight once for all rows. In floating point few rows are multiplied one by
    one or four by four, experts token by token, so that no bit depends on the others (`model.layers.ROWS_APART`).
    """
    return decoder.device.type == "cpu" and few_bits(decoder.projection) and decoder.config.experts is None


def scorers_for(
    decoder: Decoder, capacity: int, count: int, adapter: Switch
) -> list[tuple[CachedScorer | GraphScorer | SharedScorer, Switch]]:
    """Scorers for `count` texts, which share their passes, each with what switches the adapter on and off for it.

    adapter: the decoder's. ModelUsageError for several on a GPU: what is recorded there has room for one text.
    """
    if count == 1:
        return [(scorer_for(decoder, capacity), adapter)]
    if decoder.device.type != "cpu":
        raise ModelUsageError(f"{count} texts at once share their passes on a processor alone (--device cpu)")
    passes = SharedPasses(decoder, adapter, pace_of(decoder))
    return [(scorer, scorer.adapter) for scorer in (SharedScorer(passes, capacity) for _ in range(count))]


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

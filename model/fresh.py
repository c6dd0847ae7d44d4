"""A decoder that has learnt nothing yet."""

from __future__ import annotations

import torch

from model.config import ModelConfig
from model.decoder import Decoder

DEVIATION = 0.02
INTO_THE_STREAM = ("attention.out.weight", "feed_forward.down.weight", "expert_down.weight", "shared.down.weight")


def fresh(config: ModelConfig, seed: int, dtype: torch.dtype = torch.float32) -> Decoder:
    """Norms and temperatures of one, biases of zero, matrices of Gaussian numbers, from `seed` alone.

    Matrices have a deviation of 0.02; those that write into the residual stream are divided by sqrt(2 · layers), so
    that the stream does not grow with depth (Radford et al., "Language Models are Unsupervised Multitask Learners",
    2019, section 2.3). Nothing of it is trained until a trainer says so.
    """
    decoder = Decoder(config, dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            if weight.dim() == 1:
                weight.fill_(1.0 if "norm" in name.split(".")[-2] else 0.0)
            elif "temperatures" in name:
                weight.fill_(1.0)
            else:
                depth = 2 * config.layers if name.endswith(INTO_THE_STREAM) else 1
                weight.copy_(torch.randn(weight.shape, generator=generator) * (DEVIATION / depth**0.5))
    if config.tied_head:
        decoder.projection.weight = decoder.embedding.weight
    return decoder

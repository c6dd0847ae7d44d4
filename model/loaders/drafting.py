"""Multi-token modules that come inside a checkpoint of any family, as DeepSeek-V3's do: as layers behind the last.

Its module reads [norm(embedding) ; norm(state)], where ours reads the state first: the columns of the projection change
places. Its state is the one behind the norm in front of it, the decoder's final norm for the first module. Embedding
and head are copies of the decoder's and are not read. Source: DeepSeek-V3's README_WEIGHTS, "MTP Modules".
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from model.config import ModelConfig
from model.decoder import Decoder
from model.errors import BadWeights
from model.loaders import Problems, drafting_layers, names
from model.loaders.fill import PRECISIONS, int4, shrink
from model.loaders.sources import Source, open_source
from model.mtp import MTP, MTPConfig, MTPModule
from model.quantised import Int4Linear
from model.rounding import Int4

_NAMES = {
    "state_norm.weight": "hnorm.weight",
    "embedding_norm.weight": "enorm.weight",
    "projection.weight": "eh_proj.weight",
    "norm.weight": "shared_head.norm.weight",
}
_COPIES = re.compile(r"model\.layers\.\d+\.(embed_tokens|shared_head\.head|shared_head)\.weight")


def load_drafts(path: Path, decoder: Decoder) -> MTP:
    """The modules in the checkpoint that `decoder` was loaded from, on its device, in four bits where it is.

    BadWeights names tensors that are missing, mis-shaped or unknown.
    """
    source = open_source(path)
    config = source.config
    if not has_drafts(path, decoder):
        raise BadWeights(f"{path.name} has no multi-token modules")
    shape = MTPConfig(config.draft_depth, config.feed_forward_width, config.vocab_size)
    ids = torch.arange(config.vocab_size)
    with torch.device("meta"):
        # Few rows on a processor are computed quickest in what the decoder computes them in.
        dtype = decoder.dtype if decoder.device.type == "cpu" else decoder.rows
        modules = MTP(_base(config), shape, ids, dtype)
    problems = Problems(source)
    matrices = {
        key: problems.checked(_parts(source, key), weight, modules.get_submodule(key.rpartition(".")[0]))
        for key, weight in modules.named_parameters()
    }
    ours = drafting_layers(config)
    problems.report([name for name in problems.unused() if name.startswith(ours) and not _COPIES.fullmatch(name)])
    if any(isinstance(module, Int4Linear) for module in decoder.modules()):
        for depth in range(shape.depth):
            key = f"depths.{depth}.projection"
            four = int4(matrices[f"{key}.weight"], decoder.device)
            halves = [part.roll(part.shape[1] // 2, 1) for part in four]
            modules.get_submodule(f"depths.{depth}").projection = Int4Linear(Int4(*halves), None)
        shrink(modules, matrices, PRECISIONS["int4"], decoder.device)
    for key, weight in list(modules.named_parameters()):
        value = matrices[key].read(weight.dtype, decoder.device)
        if key.endswith("projection.weight"):
            value = value.roll(config.width, 1)
        owner, _, attribute = key.rpartition(".")
        setattr(modules.get_submodule(owner), attribute, nn.Parameter(value, requires_grad=False))
    if config.draft_chain_normed:
        before = decoder.norm
        for module in modules.depths:
            assert isinstance(module, MTPModule)
            module.state_norm, before = nn.Sequential(before, module.state_norm), module.norm
    return modules.to(decoder.device).eval()


def has_drafts(path: Path, decoder: Decoder) -> bool:
    """Does the checkpoint of `decoder` hold modules? Its configuration may say so where they were left out."""
    layers = drafting_layers(decoder.config)
    return bool(layers) and any(name.startswith(layers) for name in open_source(path).names())


def _base(config: ModelConfig) -> ModelConfig:
    """Blocks as behind the last one: with experts, if there are any."""
    return replace(config, experts=replace(config.experts, first=0) if config.experts else None)


def _parts(source: Source, key: str) -> tuple[names.Part, ...]:
    _, depth, inner = key.split(".", 2)
    layer = source.config.layers + int(depth)
    if inner in _NAMES:
        return (names.Part(f"model.layers.{layer}.{_NAMES[inner]}"),)
    return names.parts(source.table, f"blocks.{layer}.{inner.removeprefix('block.')}", source.config, source.pairs)

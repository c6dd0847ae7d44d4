"""Multi-token prediction: small modules that say, from what the decoder already computed, what comes after next.

Module k of D reads at position t the state of the module before it (k = 1: the decoder's own, before its final norm)
and the embedding of token t + k, and predicts token t + k + 1:

    x = projection [ norm(state_t) ; norm(embedding(token_{t+k})) ]      2K -> K
    state'_t = block(x)                                                  causal over t
    logits = head(norm(state'_t))                                        over the V' ids that are drafted

Embedding and head are the decoder's own; the head has only the rows of frequent ids. Source: DeepSeek-V3 Technical
Report, 2024, section 2.2. Letters: B batch, T time, K width, D depth, V' drafted ids.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import attention
from model.attention.span import Span, Trails
from model.cache import Cache, LayerCache
from model.config import ModelConfig
from model.decoder import Block, Decoder
from model.errors import BadWeights
from model.layers import Linear, RMSNorm

GROUP = 32
"""Inputs that share a scale in the file."""
SLICE = 512
"""Rows that are decoded at a time."""


@dataclass(frozen=True)
class MTPConfig:
    """What the modules are made of."""

    depth: int = 2
    feed_forward_width: int = 3840
    """Narrower than the decoder's, so that two modules fit 16 MB."""
    vocabulary: int = 32_768
    """Ids that can be drafted."""


class MTPModule(nn.Module):
    """One depth."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        super().__init__()
        self.state_norm: nn.Module = RMSNorm(config.width, config.norm_eps, dtype)
        self.embedding_norm = RMSNorm(config.width, config.norm_eps, dtype)
        self.projection = Linear(2 * config.width, (config.width,), False, dtype)
        self.block = Block(config, 0, dtype)
        self.norm = RMSNorm(config.width, config.norm_eps, dtype)

    def forward(self, state: Tensor, embedded: Tensor, span: Span, cache: LayerCache | None) -> Tensor:
        """state and embedded [B, T, K] -> the next state [B, T, K]"""
        x: Tensor = self.block(self.projection(self.joined(state, embedded)), span, cache)
        return x

    def joined(self, state: Tensor, embedded: Tensor) -> Tensor:
        """state and embedded [..., K] -> what is projected, [..., 2K]"""
        return torch.cat([self.state_norm(state), self.embedding_norm(embedded)], -1)


class MTP(nn.Module):
    """The modules, and which ids they draft. `about` says what they were made for."""

    ids: Tensor
    """[V'], the ids that are drafted, most frequent first."""

    def __init__(self, base: ModelConfig, config: MTPConfig, ids: Tensor, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.about: dict[str, str] = {}
        self.base = replace(base, layers=config.depth, feed_forward_width=config.feed_forward_width)
        self.depths = nn.ModuleList(MTPModule(self.base, dtype) for _ in range(config.depth))
        self.register_buffer("ids", ids.clone())

    def new_cache(self, max_length: int, batch: int, dtype: torch.dtype) -> Cache:
        """Rows for every depth."""
        kind = attention(self.base.attention)
        rows = [kind.rows(self.base, depth) for depth in range(self.base.layers)]
        return Cache(rows, max_length, batch, dtype, self.ids.device)

    def head_rows(self, decoder: Decoder) -> Tensor:
        """The rows of the decoder's projection for the drafted ids, [V', K]."""
        weight = decoder.projection.weight
        assert isinstance(weight, Tensor)
        return weight.detach()[self.ids]

    def states(self, decoder: Decoder, ids: Tensor, hidden: Tensor, beyond: int = 0) -> list[Tensor]:
        """For texts that are known: the state of every depth, before its norm.

        ids [B, T]; hidden [B, T, K] is the decoder's at all of them. Depth k (from 1) comes as [B, T - k, K].

        beyond: further depths, for which the last module is run on, on its own state, one position later each: from
        every position at once, as `model.engine.mtp_draft` runs it on from one.
        """
        found = []
        state = hidden
        depths = self._modules_in_order()
        trails = Trails() if beyond else None
        for k in range(1, len(depths) + beyond + 1):
            time, later = ids.shape[1] - k, max(k - len(depths), 0)
            positions = torch.arange(later, later + time, device=ids.device)
            span = Span(0, time, decoder.rotary(positions), hidden.dtype)
            seen = trails if k >= len(depths) else None
            state = self._module(k - 1)(state[:, :time], decoder.embedding(ids[:, k:]), span, seen)
            found.append(state)
        return found

    def logits(self, depth: int, state: Tensor, head: Tensor) -> Tensor:
        """State [..., K] of depth 0 … D - 1, or of one beyond, and head rows [V', K] -> [..., V']"""
        normed = self._module(depth).norm(state)
        return F.linear(normed.to(head.dtype), head)

    def _module(self, depth: int) -> MTPModule:
        """Behind the last depth it is the last one still."""
        modules = self._modules_in_order()
        return modules[min(depth, len(modules) - 1)]

    def _modules_in_order(self) -> list[MTPModule]:
        return [module for module in self.depths if isinstance(module, MTPModule)]


def fresh(decoder: Decoder, config: MTPConfig, ids: Sequence[int], seed: int) -> MTP:
    """Modules to be trained, fp32: the decoder's last block, its strongest feed-forward features, its final norm.

    The projection begins as twice the state, about what the last block is used to, and a little of the embedding.
    """
    mtp = MTP(decoder.config, config, torch.tensor(ids), torch.float32).to(decoder.device)
    last = decoder.blocks[-1]
    weights = {name: value.detach().float() for name, value in last.named_parameters()}
    kept = _strongest(weights, config.feed_forward_width)
    inner = decoder.config.feed_forward_width
    weights["feed_forward.gate_up.weight"] = weights["feed_forward.gate_up.weight"][torch.cat([kept, kept + inner])]
    weights["feed_forward.down.weight"] = weights["feed_forward.down.weight"][:, kept]
    if "feed_forward.gate_up.bias" in weights:
        weights["feed_forward.gate_up.bias"] = weights["feed_forward.gate_up.bias"][torch.cat([kept, kept + inner])]
    width = decoder.config.width
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for depth in mtp.depths:
            assert isinstance(depth, MTPModule)
            depth.block.load_state_dict(weights)
            depth.norm.weight.copy_(decoder.norm.weight)
            depth.get_parameter("state_norm.weight").fill_(1.0)
            depth.embedding_norm.weight.fill_(1.0)
            noise = torch.randn(width, width, generator=generator) * 0.02
            depth.projection.weight.copy_(torch.cat([2 * torch.eye(width), noise], 1))
    return mtp.requires_grad_(True)


def _strongest(weights: dict[str, Tensor], count: int) -> Tensor:
    """The features [count] of a feed-forward that can move the residual stream most, in their order."""
    gate, up = weights["feed_forward.gate_up.weight"].chunk(2)
    down = weights["feed_forward.down.weight"]
    scale = weights["feed_forward_norm.weight"]
    strength = (gate * scale).norm(dim=1) * (up * scale).norm(dim=1) * down.norm(dim=0)
    found: Tensor = strength.topk(count).indices.sort().values
    return found


# Matrices are kept in 4 bits, everything else in fp16.


def is_matrix(name: str, value: Tensor) -> bool:
    """Is this parameter kept in 4 bits?"""
    return name.endswith("weight") and value.dim() == 2


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[N, K] -> codes 0 … 15 as uint8 [N, K] and scales [N, K/GROUP] fp16: weight ≈ (code - 8)·scale.

    The number of largest size becomes -8 exactly, so that all sixteen codes are used (ggml's Q4_0).
    """
    groups = weight.float().unflatten(-1, (-1, GROUP))
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    scales = (largest / -8).to(torch.float16)
    steps = scales.float()
    codes = torch.where(steps == 0, 8.0, groups / torch.where(steps == 0, 1.0, steps) + 8).round().clamp(0, 15)
    return codes.to(torch.uint8).flatten(-2), scales.squeeze(-1)


def dequantise(codes: Tensor, scales: Tensor) -> Tensor:
    """The numbers [N, K] that codes [N, K] and scales [N, K/GROUP] stand for, fp32."""
    groups = codes.float().sub_(8).unflatten(-1, (-1, GROUP))
    return torch.flatten(groups.mul_(scales.float().unsqueeze(-1)), -2)


def rounded(weight: Tensor) -> Tensor:
    """The matrix as its file gives it back, fp32."""
    return dequantise(*quantise(weight))


@dataclass(frozen=True)
class Header:
    """What the file says about itself."""

    config: MTPConfig
    about: dict[str, str] = field(default_factory=dict)


def save(mtp: MTP, path: Path) -> None:
    """Matrices as two codes a byte and fp16 scales, the rest as fp16, the drafted ids as int32."""
    tensors = {"ids": mtp.ids.to(torch.int32).cpu()}
    for name, parameter in mtp.named_parameters():
        value = parameter.detach().cpu()
        if is_matrix(name, value):
            codes, scales = quantise(value)
            tensors[f"{name}.codes"] = (codes[:, 0::2] | (codes[:, 1::2] << 4)).contiguous()
            tensors[f"{name}.scales"] = scales.contiguous()
        else:
            tensors[name] = value.to(torch.float16).contiguous()
    save_file(tensors, path, {"config": json.dumps(asdict(mtp.config)), "about": json.dumps(mtp.about)})


def header(path: Path) -> Header:
    """What is in the file, without reading its weights."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if "config" not in metadata:
        raise BadWeights(f"{path.name} does not say what its modules are made of")
    return Header(MTPConfig(**json.loads(metadata["config"])), json.loads(metadata.get("about", "{}")))


def load(
    path: Path,
    decoder: Decoder,
    dtype: torch.dtype = torch.float32,
    small: Callable[[Linear], nn.Module] | None = None,
) -> MTP:
    """The modules in a file, for `decoder`, on its device. BadWeights if they do not fit.

    small: what to put in the place of a linear layer as soon as it is read.
    """
    head = header(path)
    with safe_open(path, framework="pt") as file:
        left = set(file.keys())
        ids = file.get_tensor("ids").long()
        left.discard("ids")
        if ids.numel() != head.config.vocabulary or int(ids.max()) >= decoder.config.vocab_size:
            raise BadWeights(f"{path.name} drafts ids that the model does not have")
        with torch.device("meta"):
            mtp = MTP(decoder.config, head.config, ids, dtype)
        for place, module in list(mtp.named_modules()):
            shrinks = small is not None and isinstance(module, Linear)
            for name, parameter in list(module.named_parameters(place, recurse=False)):
                keys = [key for key in (name, f"{name}.codes", f"{name}.scales") if key in left]
                left.difference_update(keys)
                if not keys:
                    raise BadWeights(f"{path.name} has no {name}")
                value = _decoded([file.get_tensor(key) for key in keys])
                if value.shape != parameter.shape:
                    raise BadWeights(f"{path.name}: {name} is {list(value.shape)}, not {list(parameter.shape)}")
                kept = value.to(decoder.device, torch.float32 if shrinks else dtype)
                setattr(module, name.rpartition(".")[2], nn.Parameter(kept, requires_grad=False))
            if small is not None and isinstance(module, Linear):
                owner, _, attribute = place.rpartition(".")
                setattr(mtp.get_submodule(owner), attribute, small(module))
                del module.weight  # which the list of modules would keep
    if left:
        raise BadWeights(f"{path.name} has unknown tensors: {', '.join(sorted(left)[:3])}")
    mtp.about = head.about
    return mtp.to(decoder.device).eval()


def _decoded(stored: list[Tensor]) -> Tensor:
    """A parameter, fp32: as it is in the file, or from codes, two to a byte, and scales."""
    if len(stored) == 1:
        return stored[0].float()
    packed, scales = stored
    # Slice by slice: what is needed in between is four times as large as what comes of it.
    whole = torch.empty(len(packed), 2 * packed.shape[1])
    for to, some, own in zip(*(part.split(SLICE) for part in (whole, packed, scales)), strict=True):
        to.copy_(dequantise(torch.stack([some & 15, some >> 4], -1).flatten(-2), own))
    return whole

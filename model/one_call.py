"""Blocks with eight-bit weights whose few rows a processor computes in one call; see `kernels.layer`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

import kernels
from kernels.experts import Routing
from kernels.layer import Dense, Experts, GroupedQuery, Kind, Latent, LatentKind, Layer, Product, Text
from model.attention.gqa import GroupedQueryAttention
from model.attention.grouped import GroupedLatentAttention, Temperatures
from model.attention.mla import LatentAttention
from model.attention.span import Span
from model.cache import LayerCache, LayerCaches
from model.decoder import Block, Decoder
from model.feed_forward.dense import SwiGLU
from model.feed_forward.moe import MixtureOfExperts
from model.feed_forward.quantised import QuantisedExperts
from model.layers import ROWS_APART, RMSNorm
from model.lora import Adapted8, Switch
from model.positions import GroupedRotation
from model.quantised import Int8Linear

TOGETHER = 8
"""Rows for which one call goes through several blocks, at most."""
READ = 16 << 20
"""Bytes of weights that such a call reads, at most: between two calls a pass can be broken off."""
PIECE = 64
"""Rows of a call, at most, where all rows of a prompt are computed so."""
_NO_ADAPTER = Switch()


class OneCall(Block):
    """A block with the modules of another. Few rows behind a cache take one call, others take many.

    Up to ROWS_APART are few. With latent attention, of which there is no quicker product for many, all are, a piece at
    a time.
    """

    def __init__(self, block: Block, layer: Layer) -> None:
        nn.Module.__init__(self)
        for name, module in block.named_children():
            setattr(self, name, module)
        self.behind: tuple[OneCall, ...] = ()
        """Blocks that follow and fit the same call."""
        self.layer = layer
        self._of = _products(self)
        self._switch = _NO_ADAPTER
        # At once: what it compiles is then there when it is needed.
        self._packed: kernels.Packed | None = kernels.pack_layer(layer)

    def forward(self, x: Tensor, span: Span, cache: LayerCache | LayerCaches | None) -> Tensor:
        """[B, T, K] -> [B, T, K]"""
        if not self._fits(x, span, cache):
            return super().forward(x, span, cache)
        return _through([self], x, span, [cache])

    def run(self, x: Tensor, span: Span, layers: Sequence[LayerCache | LayerCaches | None]) -> tuple[Tensor, int]:
        """This block, and those behind it that go in one call with it."""
        blocks = [self, *self.behind]
        own = layers[: len(blocks)]
        few = x.shape[1] <= TOGETHER and all(
            block._fits(x, span, cache) and block._switch is self._switch
            for block, cache in zip(blocks, own, strict=True)
        )
        return (_through(blocks, x, span, own), len(blocks)) if few else super().run(x, span, layers)

    def packed(self) -> kernels.Packed:
        """The layer as its kernel takes it."""
        assert self._packed is not None
        return self._packed

    @property
    def adapted(self) -> bool:
        """Is the adapter on?"""
        return self._switch.on

    @property
    def takes_all(self) -> bool:
        """Do all rows behind a cache go in calls, whose bits no thread changes?"""
        return isinstance(self.attention, LatentAttention) and self._routes()

    def _routes(self) -> bool:
        """Are experts chosen as a call chooses them, if there are any?"""
        return not (isinstance(self.feed_forward, MixtureOfExperts) and self.feed_forward.router.strategy[0])

    def _fits(self, x: Tensor, span: Span, cache: LayerCache | LayerCaches | None) -> bool:
        batch, time, _ = x.shape
        latent = isinstance(self.attention, LatentAttention)
        many = time > ROWS_APART and not (latent and isinstance(cache, LayerCache))
        if cache is None or batch > 1 or many or not self._routes() or not self._ready():
            return False
        turned: int = span.rotation[0].shape[-1]
        return turned == (self.attention.rotary_width if latent else self.attention.width)

    def _ready(self) -> bool:
        """Is the layer as its kernel takes it? An adapter may have come since the last pass."""
        products = _products(self)
        if products != self._of:
            self._of = products
            layer = _layer_of(self)
            self._packed = None if layer is None else kernels.pack_layer(layer)
            self._switch = next((each.switch for each in products if isinstance(each, Adapted8)), _NO_ADAPTER)
        return self._packed is not None


def suits(block: Block) -> bool:
    """Is there a kernel for blocks like this one, which needs no weights, in eight bits here?"""
    kind = kind_of(block)
    return kind is not None and kernels.kind_problem(kind) is None


def begin_to_compile(block: Block) -> None:
    """What blocks like this one will need, whose weights are still to come."""
    kind = kind_of(block)
    if kind is not None:
        kernels.prepare_layers(kind)


def in_one_call(whole: nn.Module) -> None:
    """Put `OneCall` in the place of every block of `whole` that has a kernel where it is."""
    for name, module in list(whole.named_modules()):
        layer = _layer_of(module) if type(module) is Block else None
        if layer is not None:
            owner, _, attribute = name.rpartition(".")
            setattr(whole.get_submodule(owner), attribute, OneCall(module, layer))
    if isinstance(whole, Decoder):
        for first, block in enumerate(whole.blocks):
            if isinstance(block, OneCall):
                block.behind = _behind(block, whole.blocks[first + 1 :])


def _behind(first: OneCall, rest: Iterable[nn.Module]) -> tuple[OneCall, ...]:
    """Of the blocks that follow the first, those that fit one call with it."""
    left, found = READ - first.layer.read, []
    for block in rest:
        if not isinstance(block, OneCall) or block.layer.kind != first.layer.kind or block.layer.read > left:
            break
        left -= block.layer.read
        found.append(block)
    return tuple(found)


def kind_of(block: Block) -> Kind | None:
    """What a kernel would be compiled for; its weights need not be there. None for what no kernel is for."""
    attention, feed_forward = block.attention, block.feed_forward
    if not isinstance(feed_forward, MixtureOfExperts) and type(feed_forward) is not SwiGLU:
        return None
    routing = _routing(feed_forward) if isinstance(feed_forward, MixtureOfExperts) else None
    if isinstance(attention, GroupedQueryAttention) and type(attention) is GroupedQueryAttention:
        return Kind(attention.width, routing)
    if not isinstance(attention, LatentAttention) or not isinstance(attention.query, nn.Identity):
        return None
    sizes = (attention.heads, attention.plain, attention.rotary_width, attention.latent, attention.value)
    normed, grouped = isinstance(attention.latent_norm, RMSNorm), isinstance(attention, GroupedLatentAttention)
    return Kind(LatentKind(*sizes, normed, grouped), routing)


def _products(block: Block) -> tuple[nn.Module, ...]:
    """The modules that an adapter may have been put into."""
    attention, feed_forward = block.attention, block.feed_forward
    first = attention.qkv if isinstance(attention, GroupedQueryAttention) else attention.down
    inner = feed_forward.shared if isinstance(feed_forward, MixtureOfExperts) else feed_forward
    last = (inner.gate_up, inner.down) if isinstance(inner, SwiGLU) else ()
    return first, attention.out, *last


def _layer_of(block: Block) -> Layer | None:
    """What a kernel computes, None where there is none for a block like this."""
    if kind_of(block) is None:
        return None
    attention, feed_forward = _attention(block.attention), _feed_forward(block.feed_forward)
    if attention is None or feed_forward is None:
        return None
    first, second = block.attention_norm, block.feed_forward_norm
    layer = Layer(first.weight.detach(), second.weight.detach(), first.eps, attention, feed_forward)
    return layer if kernels.layer_problem(layer) is None else None


def _attention(module: nn.Module) -> GroupedQuery | Latent | None:
    if isinstance(module, GroupedQueryAttention):
        into, out = _product(module.qkv), _product(module.out)
        return None if into is None or out is None else GroupedQuery(into, out, module.groups, module.width)
    assert isinstance(module, LatentAttention)
    into, out = _product(module.down), _product(module.out)
    if into is None or out is None:
        return None
    norm, window, tempers = module.latent_norm, None, None
    gain, eps = (norm.weight.detach(), norm.eps) if isinstance(norm, RMSNorm) else (None, 0.0)
    if isinstance(module, GroupedLatentAttention):
        window = module.window
        if isinstance(module.temperatures, Temperatures):
            tempers = module.temperatures.weight.detach()
    up = module.up.weight.detach().bfloat16()
    return Latent(into, gain, eps, up, out, module.heads, module.rotary_width, module.scale, tempers, window)


def _feed_forward(module: nn.Module) -> Dense | Experts | None:
    if isinstance(module, SwiGLU):
        gate_and_up, out = _product(module.gate_up), _product(module.down)
        return None if gate_and_up is None or out is None else Dense(gate_and_up, out)
    assert isinstance(module, MixtureOfExperts)
    first, last = module.expert_gate_up, module.expert_down
    if not isinstance(first, QuantisedExperts) or not isinstance(last, QuantisedExperts):
        return None
    inner = module.shared
    gate_up, down = _alone(first.experts), _alone(last.experts)
    shared = _alone([inner.gate_up, inner.down] if isinstance(inner, SwiGLU) else [])
    if gate_up is None or down is None or shared is None:
        return None
    router = module.router
    bias = router.bias.detach() if router.experts.balanced else None
    both = (shared[0], shared[1]) if shared else None
    return Experts(router.weight.detach().float(), bias, _routing(module), gate_up, down, both)


def _alone(modules: Iterable[nn.Module]) -> tuple[kernels.Packed, ...] | None:
    """The matrices of experts, None if one has a bias, an adapter, or other bits."""
    each = list(modules)
    found = [module.packed for module in each if isinstance(module, Int8Linear) and module.bias is None]
    return tuple(found) if len(found) == len(each) else None


def _routing(module: MixtureOfExperts) -> Routing:
    e, (threshold, fallback) = module.router.experts, module.router.strategy
    best_two, sigmoid = e.group_score == "best-two", e.scoring == "sigmoid"
    groups = (e.groups, e.chosen_groups)
    return Routing(e.count, e.chosen, *groups, best_two, sigmoid, e.normalised, e.scale, threshold, fallback == "dense")


def _product(module: nn.Module) -> Product | None:
    if isinstance(module, Adapted8) and isinstance(module.base, Int8Linear):
        return Product(module.base.packed, module.base.bias, (module.down, module.up))
    return Product(module.packed, module.bias, None) if isinstance(module, Int8Linear) else None


def _through(
    blocks: Sequence[OneCall], x: Tensor, span: Span, caches: Sequence[LayerCache | LayerCaches | None]
) -> Tensor:
    """[1, T, K] -> [1, T, K]"""
    turns, found = _turns(span), []
    packed = [block.packed() for block in blocks]
    for first in range(0, x.shape[1], PIECE):
        rows = slice(first, first + PIECE)
        texts = [_texts(span, cache, first) for cache in caches]
        y, chosen = kernels.layer(x[0, rows], packed, [turn[rows] for turn in turns], texts, blocks[0].adapted)
        for block, ids in zip(blocks, chosen, strict=True):
            if isinstance(block.feed_forward, MixtureOfExperts):
                block.feed_forward.router.counted.add(ids)
        found.append(y)
    return (found[0] if len(found) == 1 else torch.cat(found)).unsqueeze(0)


def _turns(span: Span) -> list[Tensor]:
    """Cosines and signed sines: for near keys, and for grouped positions those of far queries and far keys."""
    rotation = span.rotation
    far = (*rotation.query, *rotation.key) if isinstance(rotation, GroupedRotation) else ()
    return [*rotation, *far]


def _texts(span: Span, cache: LayerCache | LayerCaches | None, first: int) -> list[Text]:
    """Whose rows the pass has from row `first` on, a piece of them."""
    assert cache is not None
    if isinstance(cache, LayerCache):
        return [_text(span.start + first, min(span.time - first, PIECE), cache)]
    return [_text(*each) for each in cache.texts]


def _text(start: int, rows: int, cache: LayerCache) -> Text:
    return Text(start, rows, tuple(kept[0] for kept in cache.rows))

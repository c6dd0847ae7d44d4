"""Blocks with eight-bit weights whose few rows a processor computes in one call; see `kernels.layer`."""

from __future__ import annotations

from torch import Tensor, nn

import kernels
from kernels.layer import Layer, Product, Text
from model.attention.gqa import GroupedQueryAttention
from model.attention.span import Span
from model.cache import LayerCache, LayerCaches
from model.decoder import Block
from model.feed_forward.dense import SwiGLU
from model.layers import ROWS_APART
from model.lora import Adapted8, Switch
from model.quantised import Int8Linear


class OneCall(Block):
    """A block with the modules of another. Up to ROWS_APART rows behind a cache take one call, others take many."""

    attention: GroupedQueryAttention
    feed_forward: SwiGLU

    def __init__(self, block: Block, layer: Layer) -> None:
        nn.Module.__init__(self)
        for name, module in block.named_children():
            setattr(self, name, module)
        self._of = _products(self.attention, self.feed_forward)
        self._switch = Switch()
        # At once: what it compiles is then there when it is needed.
        self._packed: kernels.Packed | None = kernels.pack_layer(layer)

    def forward(self, x: Tensor, span: Span, cache: LayerCache | LayerCaches | None) -> Tensor:
        """[B, T, K] -> [B, T, K]"""
        batch, time, _ = x.shape
        turned = span.rotation[0].shape[-1]
        packed = self._layer()
        if cache is None or packed is None or batch > 1 or time > ROWS_APART or turned != self.attention.width:
            return super().forward(x, span, cache)
        return kernels.layer(x[0], packed, span.rotation, _texts(span, cache), self._switch.on).unsqueeze(0)

    def _layer(self) -> kernels.Packed | None:
        """The layer as its kernel takes it, None where there is none; an adapter may have come since the last pass."""
        products = _products(self.attention, self.feed_forward)
        if products != self._of:
            layer = _layer_of(self)
            self._of = products
            self._packed = None if layer is None else kernels.pack_layer(layer)
            self._switch = next((each.switch for each in products if isinstance(each, Adapted8)), Switch())
        return self._packed


def in_one_call(whole: nn.Module) -> None:
    """Put `OneCall` in the place of every block of `whole` that has a kernel where it is."""
    for name, module in list(whole.named_modules()):
        layer = _layer_of(module) if type(module) is Block else None
        if layer is not None:
            owner, _, attribute = name.rpartition(".")
            setattr(whole.get_submodule(owner), attribute, OneCall(module, layer))


def _products(attention: GroupedQueryAttention, feed_forward: SwiGLU) -> tuple[nn.Module, ...]:
    return attention.qkv, attention.out, feed_forward.gate_up, feed_forward.down


def _layer_of(block: Block) -> Layer | None:
    """What a kernel computes, None where there is none for a block like this."""
    attention, feed_forward = block.attention, block.feed_forward
    if type(attention) is not GroupedQueryAttention or type(feed_forward) is not SwiGLU:
        return None
    qkv, out, gate_up, down = (_product(module) for module in _products(attention, feed_forward))
    if qkv is None or out is None or gate_up is None or down is None:
        return None
    first, second = block.attention_norm, block.feed_forward_norm
    gains = (first.weight.detach(), second.weight.detach())
    layer = Layer(*gains, first.eps, qkv, out, gate_up, down, attention.groups, attention.width)
    return layer if kernels.layer_problem(layer) is None else None


def _product(module: nn.Module) -> Product | None:
    if isinstance(module, Adapted8) and isinstance(module.base, Int8Linear):
        return Product(module.base.packed, module.base.bias, (module.down, module.up))
    return Product(module.packed, module.bias, None) if isinstance(module, Int8Linear) else None


def _texts(span: Span, cache: LayerCache | LayerCaches) -> list[Text]:
    texts = [(span.start, span.time, cache)] if isinstance(cache, LayerCache) else cache.texts
    return [Text(start, time, layer.rows[0][0], layer.rows[1][0]) for start, time, layer in texts]

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
from model.layers import ROWS_APART, RMSNorm
from model.lora import Adapted8, Switch
from model.quantised import Int8Linear


class OneCall(Block):
    """A block with the modules of another. Up to ROWS_APART rows behind a cache take one call, others take many."""

    def __init__(self, block: Block) -> None:
        nn.Module.__init__(self)
        for name, module in block.named_children():
            setattr(self, name, module)
        self._of: tuple[nn.Module, ...] = ()
        self._packed: kernels.Packed | None = None
        self._switch = Switch()
        self._layer()  # what it compiles is then there when it is needed

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
        modules = (*_products(self), self.attention_norm, self.feed_forward_norm)
        if modules != self._of:
            self._of, self._packed = modules, None
            layer = _layer_of(self)
            if layer is not None and kernels.layer_problem(layer) is None:
                self._packed = kernels.pack_layer(layer)
                self._switch = next((each.switch for each in modules if isinstance(each, Adapted8)), Switch())
        return self._packed


def in_one_call(whole: nn.Module) -> None:
    """Put `OneCall` in the place of every block of `whole` that has a kernel on this processor."""
    for name, module in list(whole.named_modules()):
        if type(module) is not Block:
            continue
        layer = _layer_of(module)
        if layer is not None and kernels.layer_problem(layer) is None:
            owner, _, attribute = name.rpartition(".")
            setattr(whole.get_submodule(owner), attribute, OneCall(module))


def _products(block: Block) -> tuple[nn.Module, ...]:
    attention, feed_forward = block.attention, block.feed_forward
    return attention.qkv, attention.out, feed_forward.gate_up, feed_forward.down  # type: ignore[return-value]


def _layer_of(block: Block) -> Layer | None:
    """What a kernel computes, None where the block is of another kind."""
    attention = block.attention
    if type(attention) is not GroupedQueryAttention or type(block.feed_forward) is not SwiGLU:
        return None
    found = [_product(module) for module in _products(block)]
    qkv, out, gate_up, down = found
    if qkv is None or out is None or gate_up is None or down is None:
        return None
    first, second = block.attention_norm, block.feed_forward_norm
    assert isinstance(first, RMSNorm) and isinstance(second, RMSNorm) and first.eps == second.eps
    gains = (first.weight.detach(), second.weight.detach())
    return Layer(*gains, first.eps, qkv, out, gate_up, down, attention.groups, attention.width)


def _product(module: nn.Module) -> Product | None:
    if isinstance(module, Adapted8) and isinstance(module.base, Int8Linear):
        return Product(module.base.packed, module.base.bias, (module.down, module.up))
    return Product(module.packed, module.bias, None) if isinstance(module, Int8Linear) else None


def _texts(span: Span, cache: LayerCache | LayerCaches) -> list[Text]:
    texts = [(span.start, span.time, cache)] if isinstance(cache, LayerCache) else cache.texts
    return [Text(start, time, layer.rows[0][0], layer.rows[1][0]) for start, time, layer in texts]

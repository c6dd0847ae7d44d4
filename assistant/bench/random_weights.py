"""Decoders and modules of random weights, of the default model's shape: the speed of a GPU does not depend on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model import Decoder


def random_decoder(dtype: str = "auto", device: str = "cuda") -> Decoder:
    """Random weights of the default model's shape: bfloat16, or as `dtype` ("float32", "int4") says."""
    import torch

    from model import Decoder, ModelConfig
    from model.config import Rope
    from model.layers import Rotary
    from model.quantised import Int8Embedding, Q8Linear, to_q8

    config = ModelConfig(
        family="qwen2", vocab_size=151_936, width=896, layers=24, heads=14, groups=2, head_width=64,
        feed_forward_width=4864, context_length=32_768, rope=Rope(1e6, 64), norm_eps=1e-6, tied_head=True,
        qkv_bias=True, out_bias=False, feed_forward_bias=False,
    )  # fmt: skip
    kept = torch.float32 if dtype == "float32" else torch.bfloat16
    with torch.device("meta"):
        decoder = Decoder(config, kept)
    decoder.to_empty(device=device)
    decoder.projection.weight = decoder.embedding.weight
    decoder.rotary = Rotary(config.rope, kept).to(device)
    generator = torch.Generator(device).manual_seed(0)
    for name, weight in decoder.named_parameters():
        weight.data.normal_(0, 0.02, generator=generator)
        if "norm" in name:
            weight.data.add_(1)
    if dtype == "int4":
        _quantise(decoder)
    elif kept == torch.bfloat16:
        head = to_q8(decoder.get_parameter("embedding.weight").data)
        decoder.projection, decoder.embedding = Q8Linear(head), Int8Embedding(head, kept)
    return decoder.eval()


def _quantise(decoder: Decoder) -> None:
    """Four bits for the matrices of all layers, eight for the embedding, which is the head.

    The loader leaves some of a layer's matrices eight bits (`model.rounding.finer`); one launch takes one kind alone.
    """
    from kernels.weights import Eight
    from model.decoder import Block
    from model.layers import Embedding, Linear
    from model.quantised import Int4Linear, Int8Embedding, Int8Linear, to_int8
    from model.rounding import to_int4

    for block in decoder.blocks:
        assert isinstance(block, Block)
        for path in ("attention.qkv", "attention.out", "feed_forward.gate_up", "feed_forward.down"):
            layer = block.get_submodule(path)
            assert isinstance(layer, Linear)
            owner, _, name = path.rpartition(".")
            setattr(block.get_submodule(owner), name, Int4Linear(to_int4(layer.weight.data), layer.bias))
    assert isinstance(decoder.embedding, Embedding)
    decoder.projection = Int8Linear(to_int8(decoder.embedding.weight.data.float()), None)
    table = decoder.projection.packed.data
    assert isinstance(table, Eight)
    decoder.embedding = Int8Embedding(table)


def random_modules(decoder: Decoder, capacity: int) -> Any:
    """Random multi-token modules of the shape of those that are trained for the default model."""
    import torch

    from model import mtp
    from model.mtp_rows import MTPRows

    config = mtp.MTPConfig()
    modules = mtp.MTP(decoder.config, config, torch.arange(config.vocabulary), torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    for name, weight in modules.named_parameters():
        weight.data.normal_(0, 0.02, generator=generator)
        if "norm" in name:
            weight.data.add_(1)
    modules = modules.to("cuda").requires_grad_(False)
    head = torch.randn(config.vocabulary, decoder.config.width, generator=generator) * 0.02
    return MTPRows(modules, decoder, [head.to("cuda")], capacity)

"""What every decoder has, and which of the other parts it has."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.config.parts import Experts, Grouped, Latent
from model.errors import BadModelFile


@dataclass(frozen=True)
class Rope:
    """Rotary positions: frequencies theta^(-2i/w), each divided by `factors[i]` where factors are given.

    w is width/repeats, and `factors` has w/2 entries. They are how every supported scaling is expressed: linear (all
    the same), Llama 3 and YaRN (bent by wavelength), or a table that comes with the checkpoint.
    """

    theta: float
    width: int
    factors: tuple[float, ...] | None = None
    gain: float = 1.0  # cosines and sines are multiplied with it: YaRN's
    interleaved: bool = False  # in the checkpoint, a pair is two neighbours, not one of each half
    repeats: int = 1  # the same frequencies so many times over: a rotary key that carries several heads' keys


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer. Widths in features, lengths in tokens.

    `attention` is the one name to change for another attention. What it needs beyond heads and rotary positions stands
    in a field of its own, which the others do not read: `latent` ("mla"), `window` ("swa"), `grouped` ("…-grouped").
    """

    family: str  # "qwen2", "llama", …: which checkpoint names and defaults apply
    vocab_size: int  # V
    width: int  # residual stream
    layers: int
    heads: int  # H, query heads
    groups: int  # G, key/value heads; heads is a multiple of it
    head_width: int  # D
    feed_forward_width: int
    context_length: int
    rope: Rope
    norm_eps: float
    tied_head: bool  # the head is the embedding
    qkv_bias: bool
    out_bias: bool
    feed_forward_bias: bool
    attention: str = "gqa"  # a name in model.attention.ATTENTIONS: gqa, gqa-grouped, swa, mla, mla-grouped
    latent: Latent | None = None  # what "mla" and "mla-grouped" compress; the rotary width is rope's
    window: int = 4096  # positions that "swa" sees, the query's own among them
    grouped: Grouped | None = None  # positions of "gqa-grouped" and "mla-grouped"
    experts: Experts | None = None  # None: every block is dense
    draft_depth: int = 0  # multi-token modules that the checkpoint holds behind its blocks
    draft_chain_normed: bool = True  # a module reads the state in front of it behind that one's final norm
    name: str = ""

    def __post_init__(self) -> None:
        for field, largest in LARGEST.items():
            value = getattr(self, field)
            if not 1 <= value <= largest:
                raise BadModelFile(f"{field} is {value}; expected 1 to {largest}")
        if self.heads % self.groups:
            raise BadModelFile(f"{self.heads} query heads cannot be shared out over {self.groups} key heads")
        rope = self.rope
        # A latent's rotary key is not a part of a head.
        widest = self.head_width if self.latent is None else LARGEST["head_width"]
        if not 2 <= rope.width <= widest or rope.repeats < 1 or rope.width % (2 * rope.repeats):
            raise BadModelFile(f"rotary width {rope.width} does not fit heads of width {self.head_width}")
        frequencies = rope.width // rope.repeats // 2
        if rope.factors is not None and len(rope.factors) != frequencies:
            raise BadModelFile(f"{len(rope.factors)} rotary factors for {frequencies} frequencies")
        if not (math.isfinite(rope.gain) and rope.gain > 0):
            raise BadModelFile(f"rotary gain is {rope.gain}")
        if not (math.isfinite(self.rope.theta) and self.rope.theta > 0):
            raise BadModelFile(f"rotary base is {self.rope.theta}")
        if not 0 <= self.draft_depth <= LARGEST["layers"]:
            raise BadModelFile(f"draft_depth is {self.draft_depth}; expected 0 to {LARGEST['layers']}")
        if not 0 < self.norm_eps < 1:
            raise BadModelFile(f"norm epsilon is {self.norm_eps}")

    def feed_forward_at(self, layer: int) -> str:
        """Which feed-forward the block at `layer` has: a name in model.feed_forward.FEED_FORWARDS."""
        return "dense" if self.experts is None or layer < self.experts.first else "moe"


def rotary_width(width: int) -> int:
    """The width, before a factor is computed for every pair of it."""
    if width > LARGEST["head_width"]:
        raise BadModelFile(f"rotary width is {width}; expected at most {LARGEST['head_width']}")
    return width


LARGEST: dict[str, int] = {
    "vocab_size": 4_000_000,
    "width": 65_536,
    "layers": 1_024,
    "heads": 1_024,
    "groups": 1_024,
    "head_width": 4_096,
    "feed_forward_width": 1_048_576,
    "context_length": 100_000_000,
    "window": 100_000_000,
}

"""The parts of a configuration that only some architectures have. Widths in features, lengths in positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.errors import BadModelFile

LARGEST_WIDTH = 1_048_576
LARGEST_COUNT = 4_096


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention: what is compressed to which width (`model.attention.mla`).

    Keys are P features of each head, made from the latent, and R = `ModelConfig.rope.width` rotary features that all
    heads share. Scores are multiplied with gain / sqrt(P + R). Source: DeepSeek-V2, 2024, section 2.1.
    """

    width: int  # C: the latent that keys and values are made from, and all of them that is cached
    plain_width: int  # P: key features of a head without position; 0: there are none
    value_width: int  # value features of a head
    query_width: int = 0  # the queries' own latent; 0: queries come straight from the residual stream
    normed: bool = True  # RMS norm of the latent; False for what was a GQA checkpoint
    gain: float = 1.0

    def __post_init__(self) -> None:
        _expect("latent width", self.width, 1)
        _expect("latent plain_width", self.plain_width, 0)
        _expect("latent value_width", self.value_width, 1)
        _expect("latent query_width", self.query_width, 0)
        if not (math.isfinite(self.gain) and self.gain > 0):
            raise BadModelFile(f"latent gain is {self.gain}")


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the dense feed-forward (`model.feed_forward.moe`).

    The `chosen` best experts of the `chosen_groups` best groups see a token, and a shared one of shared·width features
    sees every token. Source: DeepSeek-V3 Technical Report, 2024, section 2.1.2.
    """

    count: int  # E, routed experts
    chosen: int  # of them, for a token
    width: int  # features inside one
    groups: int = 1  # the experts in equal groups
    chosen_groups: int = 1
    shared: int = 0  # shared experts; they are computed as one that is so many times as wide
    first: int = 0  # blocks in front of this one are dense
    scoring: str = "sigmoid"  # or "softmax"
    group_score: str = "best-two"  # a group is worth the sum of its two best experts, or "best": its best one
    normalised: bool = True  # the chosen experts' gates sum to one before they are scaled
    scale: float = 1.0  # of the routed experts' sum
    balanced: bool = True  # a bias for each expert, for choosing only, that evens out their load
    threshold: float = 0.0  # router mass that is enough: fewer than `chosen` where they reach it; 0: always `chosen`
    fallback: str = "topk"  # where `chosen` experts do not reach it: they all the same, or "dense": every expert

    def __post_init__(self) -> None:
        for name in ("count", "chosen", "groups", "chosen_groups"):
            _expect(f"experts {name}", getattr(self, name), 1, LARGEST_COUNT)
        _expect("experts width", self.width, 1)
        _expect("experts shared", self.shared, 0, LARGEST_COUNT)
        _expect("experts first", self.first, 0, LARGEST_COUNT)
        if self.count % self.groups:
            raise BadModelFile(f"{self.count} experts cannot be shared out over {self.groups} groups")
        if self.chosen_groups > self.groups or self.chosen > self.count // self.groups * self.chosen_groups:
            raise BadModelFile(
                f"{self.chosen} experts of {self.chosen_groups} groups cannot be chosen"
                f" from {self.count} in {self.groups} groups"
            )
        for name, known in KNOWN.items():
            if getattr(self, name) not in known:
                raise BadModelFile(f"experts {name} is '{getattr(self, name)}' (known: {', '.join(known)})")
        if self.group_score == "best-two" and self.groups > 1 and self.count // self.groups < 2:
            raise BadModelFile("groups of one expert have no two best ones")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise BadModelFile(f"experts scale is {self.scale}")
        if not 0 <= self.threshold <= 1:
            raise BadModelFile(f"experts threshold is {self.threshold}; expected 0 to 1")


KNOWN: dict[str, tuple[str, ...]] = {
    "scoring": ("sigmoid", "softmax"),
    "group_score": ("best", "best-two"),
    "fallback": ("topk", "dense"),
}


@dataclass(frozen=True)
class Grouped:
    """Grouped relative positions over RoPE (`model.positions`): exact distances up to a window, coarse ones beyond.

    A key `window` or more positions back is seen at W + (i // factor - j // factor) - W // factor instead of i - j, so
    that a model that was trained on L positions reaches W + (L - W)·factor. Source: Jin et al., "LLM Maybe LongLM:
    Self-Extend LLM Context Window Without Tuning", 2024.
    """

    window: int  # W
    factor: int  # positions that share a place beyond the window
    tempered: bool = False  # trained: each head multiplies its near scores and its far scores with a number of its own

    def __post_init__(self) -> None:
        _expect("grouped window", self.window, 1, 100_000_000)
        _expect("grouped factor", self.factor, 1, 100_000)


def _expect(name: str, value: int, least: int, largest: int = LARGEST_WIDTH) -> None:
    if not least <= value <= largest:
        raise BadModelFile(f"{name} is {value}; expected {least} to {largest}")

"""The article's claims beside ours: stored figures, each with how it was measured, and those that are measured now."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from model.config import ModelConfig

STORED = Path(__file__).with_name("claims.json")


@dataclass(frozen=True)
class Claim:
    """One line of the table."""

    claim: str
    article: str
    """What the article says, or "–"."""
    ours: str
    how: str
    where: str
    """Machine and commit of a stored figure; "now, here" for one that was just measured."""


def stored(path: Path = STORED) -> list[Claim]:
    """The figures that need a GPU or hours. Raises msgspec.ValidationError for a file that says something else."""
    return msgspec.json.decode(path.read_bytes(), type=list[Claim])


def live(folder: Path) -> Iterator[Claim]:
    """What the small model in `folder` says of itself within seconds: sizes, cache, experts."""
    import model
    from assistant.eval.architecture import cache_bytes

    decoder = model.load(folder, "cpu", "float32")
    config = decoder.config
    sizes = cache_bytes(decoder)
    share = sizes["kept"] / sizes["all heads"]
    yield Claim(
        "cache per token, latent against all heads' keys and values",
        "O(n log n) attention, which latent attention is not",
        f"{sizes['kept']:,} of {sizes['all heads']:,} bytes: 1/{1 / share:.1f}",
        f"{config.attention}, {config.layers} layers, 16 bits",
        "now, here",
    )
    weights = folder / "model.safetensors"
    if weights.exists():
        from safetensors import safe_open

        with safe_open(weights, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a mapping
        numbers = sum(_product(shape) * (2 if name.endswith(".codes") else 1)
                      for name, shape in shapes.items() if not name.endswith(".scales"))  # fmt: skip
        size = weights.stat().st_size
        yield Claim(
            "memory of 4-bit weights against 16-bit",
            "−62 %",
            f"−{1 - size / (2 * numbers):.1%}: {size:,} bytes for {numbers:,} parameters",
            "the file of viable-small",
            "now, here",
        )
    if config.experts:
        experts = config.experts
        yield Claim(
            "routed experts that a token sees, as trained",
            "1/16",
            f"{experts.chosen} of {experts.count} and {experts.shared} shared",
            "config; by threshold: `viable eval routing`",
            "now, here",
        )
    if config.latent is not None:
        yield swapped(config)


SEEN = 8192
"""Positions in the cache while latent attention and a sliding window are timed."""
TRIES = 7


def swapped(config: ModelConfig, seen: int = SEEN) -> Claim:
    """A token behind a long text with latent attention and with a sliding window: one value of the configuration.

    Two layers with random weights in fp32, without experts and with a head of 64 tokens. What the cache holds does not
    change how long a token takes, so nothing is read before.
    """
    import torch

    from model.fresh import fresh

    core = replace(config, layers=2, vocab_size=64, context_length=seen + 1, experts=None, grouped=None, draft_depth=0)
    seconds = {}
    for name in ("mla", "swa"):
        rope = core.rope if name == "mla" else replace(core.rope, width=core.head_width)
        decoder = fresh(replace(core, attention=name, rope=rope, window=seen // 4), 0)
        cache = decoder.new_cache(seen + 1)
        taken = []
        with torch.inference_mode():
            for rows in (rows for layer in cache.layers for rows in layer.rows):
                rows.zero_()
            for _ in range(TRIES):
                cache.length = seen
                begin = time.perf_counter()
                decoder.head(decoder.hidden(torch.tensor([[1]]), cache))
                taken.append(time.perf_counter() - begin)
        seconds[name] = min(taken)
    return Claim(
        "a token behind a long text, sliding window instead of latent attention",
        "+15 %",
        f"{seconds['mla'] / seconds['swa']:.2f} × the speed: {1000 * seconds['mla']:.2f} and "
        f"{1000 * seconds['swa']:.2f} ms behind {seen:,} tokens, two layers; it sees {seen // 4:,} of them",
        f"one value of the configuration, `attention`; best of {TRIES} tokens, random weights, fp32",
        "now, here",
    )


def _product(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def table(claims: Sequence[Claim]) -> str:
    """For people."""
    parts = []
    for one in claims:
        where = f" ({one.where})" if one.where else ""
        parts.append(f"{one.claim}\n    article  {one.article}\n    ours     {one.ours}\n    how      {one.how}{where}")
    return "\n".join(parts)


def line(claims: Sequence[Claim]) -> str:
    """As JSON."""
    return json.dumps({"claims": [asdict(one) for one in claims]}, ensure_ascii=False)

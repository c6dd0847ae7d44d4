"""What the adapter and the multi-token modules are worth on held-out files, as one record: before and after."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import model as models
from assistant import prompt
from assistant.eval import drafts as drafting
from assistant.eval import fim
from model import lora
from model import mtp as modules

CONTEXT = 2048
"""Tokens of a prompt for drafts, at most."""
BEYOND = 2
"""Drafts more than there are modules, at most: the last one is run on."""
LEADING, WRITTEN = 1024, 96
"""Tokens of a text's beginning that plain text is written behind, and how many of those, at most."""


@dataclass(frozen=True)
class Asked:
    """What to measure with."""

    model: Path
    device: str
    dtype: str
    files: Path
    count: int = 600
    seed: int = 0
    max_tokens: int = fim.MAX_TOKENS
    rows: int = 128


def gaps(asked: Asked, adapter: Path | None, said: Callable[[str], None]) -> dict[str, Any]:
    """Gaps of held-out files, filled with the adapter in a file or without any."""
    decoder = models.load(asked.model, asked.device, asked.dtype)
    if adapter:
        lora.attach(decoder, lora.load(adapter))
    held = fim.read_files(asked.files)[: asked.count]
    tokenizer = models.load_tokenizer(asked.model)
    results, _ = fim.measure(decoder, tokenizer, fim.gaps(held, asked.seed), asked.max_tokens, asked.rows)
    said(fim.table(results))
    return {"files": len(held), "seed": asked.seed, "gaps": [asdict(result) for result in results]}


def drafts(asked: Asked, adapter: Path | None, mtp: Path, said: Callable[[str], None]) -> dict[str, Any]:
    """What the modules in a file draft behind beginnings of held-out files, and with the adapter in their gaps."""
    decoder = models.load(asked.model, asked.device, asked.dtype)
    switch = lora.attach(decoder, lora.load(adapter)) if adapter else lora.Switch()
    tokenizer = models.load_tokenizer(asked.model)
    trained = modules.load(mtp, decoder, decoder.dtype)
    held = fim.read_files(asked.files)[: asked.count]
    cuts = fim.gaps(held, asked.seed)
    plain = [tokenizer.encode(cut.prefix)[-LEADING:] for cut in cuts if cut.shape == "lines"]
    asking = [list(prompt.build(tokenizer, cut.prefix, cut.suffix, CONTEXT).ids) for cut in cuts]
    special = frozenset(tokenizer.specials.values())
    figures: dict[str, Any] = {"files": len(held), "seed": asked.seed}
    for name, prompts, on, most in (("plain", plain, False, WRITTEN), ("gaps", asking, True, asked.max_tokens)):
        with switch.set(on):
            found = drafting.measure(
                decoder, trained, prompts, max_tokens=min(most, asked.max_tokens), end_ids=special,
                rows=asked.rows // 4, beyond=BEYOND,
            )  # fmt: skip
        for result in found:
            said(f"{name}, blocks of {len(result.kept) + 1}: {result.tokens_per_pass:.3f} tokens per pass; {result}")
        figures[name] = [{"tokens_per_pass": round(each.tokens_per_pass, 4), **asdict(each)} for each in found]
    return figures


def kept(path: Path, when: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures of `when` in a JSON file, measured and added where they are not there; all that the file holds."""
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if when not in figures:
        figures[when] = work()
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures

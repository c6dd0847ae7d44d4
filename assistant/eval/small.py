"""Everything that is asked of a small model, as one record: before a training and after it.

Bits per byte and lines (`model.train.lines`), gaps filled with what was cut out, tokens that the modules draft, and,
where a length is given, loss by position and hidden numbers (`assistant.eval.architecture`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import model
from assistant import prompt
from assistant.eval import architecture
from assistant.eval.fim import File
from assistant.eval.fim import gaps as cut_gaps
from model import Tokenizer
from model.small import stored
from model.train import lines
from model.train.small import SmallPlan, SmallTask
from model.train.streams import Streams

CONTEXT = 2048
MEASURED = "measured"
"""What is in a record, by name."""


@dataclass(frozen=True)
class Asked:
    """What to measure with."""

    files: Sequence[File]
    streams: Streams
    rows: int
    time: int
    """Windows of a pass through the modules, and tokens of a window."""
    longest: int = 0
    """Tokens of the longest text with hidden numbers; 0: none."""
    tries: int = 5
    seed: int = 0


@dataclass
class Record:
    """Figures by name, written to `path` whenever one is added: a run that is cut off keeps what it had."""

    path: Path
    said: Callable[[str], None] = print
    figures: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.figures = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def add(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Measure, keep, and say; nothing of that if it was done before."""
        if name in self.figures.get(MEASURED, []):
            return
        begin = time.perf_counter()
        self.figures |= work()
        self.figures[MEASURED] = [*self.figures.get(MEASURED, []), name]
        self.path.write_text(json.dumps(self.figures, indent=1) + "\n", encoding="utf-8")
        self.said(f"{name}: {time.perf_counter() - begin:.1f} s")


def measure(folder: Path, device: str, asked: Asked, record: Record) -> dict[str, Any]:
    """All of it for the small model in `folder`."""
    tokenizer = model.load_tokenizer(folder)
    score = architecture.score(model.load(folder, device))
    texts = [file.text for file in asked.files]
    record.add("source", lambda: source(score, tokenizer, texts))
    record.add("gaps", lambda: {"gaps": gaps(score, tokenizer, asked.files, asked.seed)})
    record.add("modules", lambda: modules(folder, device, tokenizer, asked))
    if asked.longest:
        record.add("context", lambda: context(folder, device, texts, asked))
    return record.figures


def source(score: lines.Score, tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Any]:
    """Bits per byte, and lines that greedy decoding would have written."""
    found = lines.measure(score, tokenizer, texts)
    return {
        "bits_per_byte": round(found.bits_per_byte, 4),
        "lines_exact": round(found.exact_share, 4),
        "lines": found.lines,
    }


def gaps(
    score: lines.Score, tokenizer: Tokenizer, files: Sequence[File], seed: int, room: int = CONTEXT
) -> dict[str, list[int]]:
    """By shape, gaps that greedy decoding would fill with just what was cut out, and how many there are.

    room: tokens of a prompt and its middle.
    """
    found: dict[str, list[int]] = {}
    for cut in cut_gaps(files, seed):
        middle = [*tokenizer.encode(cut.middle), min(tokenizer.end_ids)]
        built = prompt.build(tokenizer, cut.prefix, cut.suffix, room - len(middle))
        hits = found.setdefault(cut.shape, [0, 0])
        hits[0] += lines.fills(score, built.ids, middle)
        hits[1] += 1
    return found


def modules(folder: Path, device: str, tokenizer: Tokenizer, asked: Asked) -> dict[str, Any]:
    """How often the modules' drafts are the network's own best tokens, on the held-out stream."""
    network = stored.load(folder).to(device)
    plan = SmallPlan(rows=asked.rows, time=asked.time, held_out_rows=4 * asked.rows)
    found = SmallTask(network, asked.streams, plan, tokenizer).held_out()
    return {key: value for key, value in found.items() if key != "bits_per_byte"}


def context(folder: Path, device: str, texts: Sequence[str], asked: Asked) -> dict[str, Any]:
    """Loss by position and hidden numbers, with grouped positions and without."""
    found = architecture.positions(folder, device, texts, asked.longest, asked.tries, asked.seed)
    return {one.name: asdict(one) for one in found}


def table(before: dict[str, Any], after: dict[str, Any]) -> str:
    """For people: a figure in every line, before and after."""
    rows = [("", "before", "after")]
    old = dict(line for name in before for line in _flat(name, before[name]))
    new = [line for name in after if name != MEASURED for line in _flat(name, after[name])]
    rows += [(key, old.get(key, "-"), value) for key, value in new]
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{name:{width}}  {first:>12}  {second:>12}" for name, first, second in rows)


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [line for key, inner in value.items() if key != "name" for line in _flat(f"{name}, {key}", inner)]
    if isinstance(value, list):
        return [(name, " of ".join(map(str, value)))]
    return [(name, str(value))]

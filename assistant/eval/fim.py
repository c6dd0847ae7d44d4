"""Gap-filling on files that were not trained on: does the answer end by itself, parse in its place, equal the original?

Greedy, without a validator: what the model alone does. Files are those of the held-out packages between 1.5 and 6 kB;
one gap of each measured shape is cut from every file, all decided by a seed.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from assistant import prompt as prompts
from assistant.errors import ViableError
from model import Decoder, Tokenizer
from model.train.batched import generate
from model.train.gaps import MEASURED, Cut, cut
from model.train.manifest import installed

SMALLEST, LARGEST = 1500, 6000  # bytes of a file
CONTEXT = 4096
MAX_TOKENS = 256
BEGINNING = "beginning"
"""What `beginnings` are called where shapes of gaps have names."""


@dataclass(frozen=True)
class File:
    """A held-out file."""

    package: str
    path: str
    text: str


@dataclass(frozen=True)
class Result:
    """Shares, 0 to 1, of the gaps of one shape."""

    shape: str
    gaps: int
    stopped: float
    """The answer ended with an end id."""
    parses: float
    """The file with the answer in the gap is accepted by `ast.parse`."""
    exact: float
    """The answer is the text that was cut out."""
    exact_but_blanks: float
    """The same, white space at both ends aside."""
    begins: float
    """The answer begins with the text that was cut out: what a perfect stop would give."""
    short: float
    """The text that was cut out begins with the answer, and goes on."""


def collect(site: Path, count: int, seed: int) -> list[File]:
    """`count` files of the held-out packages installed in `site`, drawn by `seed`; fewer if there are not as many."""
    found = []
    for package in installed([str(site)]):
        if not (package.held_out and package.usable):
            continue
        for path in package.files:
            if not path.is_file() or not SMALLEST <= path.stat().st_size <= LARGEST:
                continue
            text = path.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
            if "\ufffd" not in text and parses(text) and all(cut(text, s, Random(0)) for s in MEASURED):
                found.append(File(package.name, path.relative_to(site).as_posix(), text))
    found.sort(key=lambda file: (file.package, file.path))
    Random(seed).shuffle(found)
    return found[:count]


def required(site: Path, count: int, seed: int) -> list[File]:
    """The same; ViableError where there are none."""
    if found := collect(site, count, seed):
        return found
    raise ViableError(f"no held-out package is installed in {site}; `pip install networkx` brings one")


def write_files(path: Path, files: Sequence[File]) -> None:
    """As JSON lines, to be measured on another machine."""
    path.write_text("".join(json.dumps(asdict(file)) + "\n" for file in files), encoding="utf-8")


def read_files(path: Path) -> list[File]:
    """What `write_files` wrote."""
    return [File(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def parses(text: str) -> bool:
    """Does `ast.parse` accept it?"""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def gaps(files: Sequence[File], seed: int) -> list[Cut]:
    """One gap of each measured shape per file."""
    found = (cut(file.text, shape, Random(f"{seed} {shape} {file.path}")) for file in files for shape in MEASURED)
    return [gap for gap in found if gap]


def beginnings(files: Sequence[File]) -> list[Cut]:
    """The first half of each file's lines, behind which nothing stands."""
    found = []
    for file in files:
        lines = file.text.splitlines(keepends=True)
        begun = "".join(lines[: len(lines) // 2])
        found.append(Cut(begun, file.text[len(begun) :], "", "", BEGINNING))
    return found


def measure(
    decoder: Decoder, tokenizer: Tokenizer, cuts: Sequence[Cut], max_tokens: int = MAX_TOKENS, rows: int = 128
) -> tuple[list[Result], list[str]]:
    """A result per shape, and the answers."""
    built = [prompts.build(tokenizer, gap.prefix, gap.suffix, CONTEXT - max_tokens).ids for gap in cuts]
    special = frozenset(tokenizer.specials.values())
    ids = generate(decoder, built, max_tokens=max_tokens, end_ids=special, rows=rows)
    answers = [tokenizer.decode(answer) for answer in ids]
    stopped = [bool(answer) and answer[-1] in tokenizer.end_ids for answer in ids]
    results = []
    for shape in dict.fromkeys(gap.shape for gap in cuts):
        mine = [i for i, gap in enumerate(cuts) if gap.shape == shape]

        def share(values: list[bool], mine: list[int] = mine) -> float:
            return round(sum(values) / len(mine), 4)

        results.append(
            Result(
                shape=shape,
                gaps=len(mine),
                stopped=share([stopped[i] for i in mine]),
                parses=share([parses(cuts[i].prefix + answers[i] + cuts[i].suffix) for i in mine]),
                exact=share([answers[i] == cuts[i].middle for i in mine]),
                exact_but_blanks=share([answers[i].strip() == cuts[i].middle.strip() for i in mine]),
                begins=share([answers[i].startswith(cuts[i].middle) for i in mine]),
                short=share([cuts[i].middle.startswith(answers[i]) and answers[i] != cuts[i].middle for i in mine]),
            )
        )
    return results, answers


def table(results: Sequence[Result]) -> str:
    """For people."""
    lines = [
        f"{'gap':12} {'gaps':>5} {'stopped':>8} {'parses':>8} {'exact':>8} {'stripped':>9} {'begins':>8} {'short':>8}"
    ]
    for r in results:
        shares = (r.stopped, r.parses, r.exact, r.exact_but_blanks, r.begins, r.short)
        lines.append(f"{r.shape:12} {r.gaps:5} " + " ".join(f"{100 * share:7.1f}%" for share in shares))
    return "\n".join(lines)

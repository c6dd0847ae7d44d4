"""Texts to measure a validator on: real files, the same files written differently, bad continuations, middles.

Everything is drawn from a seed. The files are those of the running environment, so figures carry the number of files
and characters beside them.
"""

from __future__ import annotations

import ast
import json
import random
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

SMALLEST, LARGEST = 500, 60_000
"""Characters of a file that is drawn."""
_INDENTATION = re.compile(r"^ +", re.MULTILINE)
_PIECE = re.compile(r" ?[^\W\d]\w*| ?\d| ?[^\s\w]{1,3}|\s+(?!\S)|\s")
"""Text in pieces about as long as a language model's tokens (after the splitting rule of Qwen2's tokenizer)."""


class Source(NamedTuple):
    """A file of the corpus."""

    name: str
    text: str


class Block(NamedTuple):
    """A place in a real file, and a continuation of three tokens that nothing can mend."""

    left: str
    text: str


class Cut(NamedTuple):
    """A file with a gap: `left` + `middle` + `right` parses."""

    left: str
    middle: str
    right: str


class Output(NamedTuple):
    """What something wrote behind `prefix`."""

    prefix: str
    text: str


def outputs(path: Path) -> list[Output]:
    """JSON lines with `text` and perhaps `prefix`; other fields are passed over. Raises ValueError for other files."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            found.append(Output(record.get("prefix", ""), record["text"]))
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not an object with a `text`") from error
    return found


def standard_library(count: int, seed: int = 0) -> list[Source]:
    """`count` files of the standard library that parse, or as many as there are."""
    return _draw([Path(sysconfig.get_path("stdlib"))], ("site-packages", "lib2to3"), count, seed)


def site_packages(count: int, seed: int = 0) -> list[Source]:
    """`count` files of the installed packages that parse, or as many as there are.

    Packages are looked for in the environment's own folder and in those that it adds to the path.
    """
    added = (Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages"))
    return _draw(list(dict.fromkeys([Path(sysconfig.get_path("purelib")), *added])), (), count, seed)


def two_blanks(text: str) -> str:
    """Four blanks of indentation become two."""
    return _INDENTATION.sub(lambda found: " " * (len(found[0]) // 4 * 2 + len(found[0]) % 4), text)


def tabs(text: str) -> str:
    return _INDENTATION.sub(lambda found: "\t" * (len(found[0]) // 4) + " " * (len(found[0]) % 4), text)


def carriage_returns(text: str) -> str:
    return text.replace("\n", "\r\n")


def form_feeds(text: str) -> str:
    """A form feed before every class and function of the file's top level, as some old files have it."""
    return re.sub(r"^(?=def |class )", "\f", text, flags=re.MULTILINE)


WRITINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "2 blanks": two_blanks,
    "tabs": tabs,
    "CRLF": carriage_returns,
    "form feeds": form_feeds,
}


def written(sources: Sequence[Source], writing: str) -> list[Source]:
    """The files in another writing, without those that no longer parse in it."""
    change = WRITINGS[writing]
    changed = (Source(source.name, change(source.text)) for source in sources)
    return [source for source in changed if parses(source.text)]


def parses(text: str) -> bool:
    """Does `ast.parse` of the running interpreter accept `text`?"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return False
    return True


def pieces(text: str) -> list[str]:
    """`text` in token-like pieces; joined, they are `text`."""
    return _PIECE.findall(text)


def bad_blocks(
    sources: Sequence[Source],
    count: int,
    seed: int,
    is_bad: Callable[[str, str], bool],
    split: Callable[[str], list[str]] = pieces,
    tokens: Sequence[str] = (),
) -> Iterator[Block]:
    """`count` blocks of three tokens that `is_bad(left, block)` refuses, at random boundaries of the files.

    Half of them are drawn evenly from `tokens` (by default those that occur in the files); the other half are the
    file's next three with one of them replaced, left out, doubled or swapped with its neighbour.
    """
    rng = random.Random(seed)
    parts = [split(source.text) for source in sources]
    vocabulary = list(tokens) or sorted({token for each in parts for token in each})
    for number in range(count):
        while True:
            tokenized = rng.choice(parts)
            at = rng.randrange(len(tokenized) - 3)
            left = "".join(tokenized[:at])
            drawn = [rng.choice(vocabulary) for _ in range(3)]
            text = "".join(drawn if number % 2 else _mutated(rng, tokenized[at : at + 4], drawn[0]))
            if text and is_bad(left, text):
                yield Block(left, text)
                break


def cuts(sources: Sequence[Source], count: int, seed: int, longest: int = 400) -> Iterator[Cut]:
    """`count` gaps, half of them whole lines, half from any character to any other; at most `longest` characters."""
    rng = random.Random(seed)
    for number in range(count):
        text = rng.choice(sources).text
        begin = rng.randrange(len(text))
        end = min(len(text), begin + rng.randint(1, longest))
        if number % 2:
            begin = text.rfind("\n", 0, begin) + 1
            end = text.find("\n", end) + 1 or len(text)
        yield Cut(text[:begin], text[begin:end], text[end:])


def spoilt(rng: random.Random, text: str) -> str:
    """`text` with one piece replaced by another of its own, left out, doubled or swapped with its neighbour."""
    parts = pieces(text)
    if len(parts) < 4:
        return text[::-1]
    at = rng.randrange(len(parts) - 3)
    return "".join([*parts[:at], *_mutated(rng, parts[at : at + 4], rng.choice(parts)), *parts[at + 3 :]])


def _mutated(rng: random.Random, parts: list[str], other: str) -> list[str]:
    at, kind = rng.randrange(3), rng.randrange(4)
    if kind == 0:
        parts[at] = other
    elif kind == 1:
        del parts[at]
    elif kind == 2:
        parts.insert(at, parts[at])
    else:
        parts[at], parts[at + 1] = parts[at + 1], parts[at]
    return parts[:3]


def _draw(roots: Sequence[Path], without: tuple[str, ...], count: int, seed: int) -> list[Source]:
    paths = [(path, root) for root in roots for path in _paths(root, without)]
    found: list[Source] = []
    for path, root in random.Random(seed).sample(paths, len(paths)):
        if len(found) == count:
            break
        text = _text(path)
        if text is not None:
            found.append(Source(str(path.relative_to(root)), text))
    return found


@lru_cache(maxsize=8)
def _paths(root: Path, without: tuple[str, ...]) -> tuple[Path, ...]:
    every = sorted(root.rglob("*.py"))
    return tuple(path for path in every if not any(part in without for part in path.relative_to(root).parts))


@lru_cache(maxsize=4096)
def _text(path: Path) -> str | None:
    """What is in a file, with newlines as they are; None if it is too short, too long, no UTF-8 or does not parse."""
    if not SMALLEST <= path.stat().st_size <= LARGEST:
        return None
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return None
    return text if not text.startswith("\ufeff") and parses(text) else None

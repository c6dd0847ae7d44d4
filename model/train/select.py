"""From packages to documents: what is readable, valid and not seen before.

Copies are found twice: exactly, by a hash of the text without its white space, and nearly, by a sketch of its words
(Broder 1997, "On the resemblance and containment of documents"). Held-out packages are read first, so that a copy of
their code elsewhere is dropped as well.
"""

from __future__ import annotations

import ast
import hashlib
import multiprocessing
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from model.train.manifest import Package

SMALLEST, LARGEST = 200, 100_000  # bytes of a file
LONGEST_LINE = 400  # characters; longer ones are data
PACKAGE_BYTES = 32_000_000  # taken from one package at most, so that none drowns the others
SKETCH = 64  # smallest hashes kept
LOOKED_UP = 8  # of those, how many lead to candidates
RESEMBLANCE = 0.6  # share of common hashes from which on a file is a copy
SHINGLE = 5  # words

COPIED = frozenset(("_vendor", "_vendored", "vendor", "vendored", "third_party", "extern", "externals"))
"""Folders with other projects' code, under other licences than the package's own."""


@dataclass(frozen=True)
class Document:
    """One file that is taken."""

    package: str
    path: str
    """Its name and its folder's, for people."""
    text: str
    sha256: str


@dataclass(frozen=True)
class _Read:
    text: str
    sha256: str
    normal: bytes
    sketch: tuple[int, ...]


def read(path: Path) -> _Read | str:
    """A file with its fingerprints, or why it is not taken."""
    if COPIED & set(path.parts):
        return "another project's code"
    try:
        data = path.read_bytes()
    except OSError:
        return "unreadable"
    if not SMALLEST <= len(data) <= LARGEST:
        return "too small or too large"
    try:
        text = data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        return "not UTF-8"
    if max(map(len, text.split("\n"))) > LONGEST_LINE:
        return "very long lines"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "does not parse"
    normal = hashlib.sha256("".join(text.split()).encode()).digest()
    return _Read(text, hashlib.sha256(data).hexdigest(), normal, sketch(text))


def sketch(text: str) -> tuple[int, ...]:
    """The smallest hashes of all runs of words: what two texts share of them, they share as a whole."""
    words = [zlib.crc32(word.encode()) for word in text.split()]
    runs = {hash(tuple(words[i : i + SHINGLE])) & 0xFFFFFFFFFFFF for i in range(max(len(words) - SHINGLE + 1, 1))}
    return tuple(sorted(runs)[:SKETCH])


class Seen:
    """Remembers documents and recognises copies of them."""

    def __init__(self) -> None:
        self._normal: set[bytes] = set()
        self._sketches: list[frozenset[int]] = []
        self._where: dict[int, list[int]] = {}

    def copy(self, normal: bytes, hashes: tuple[int, ...]) -> str | None:
        """Why a document is a copy; None if it is new, and remembered from now on."""
        if normal in self._normal:
            return "exact copy"
        candidates = {i for value in hashes[:LOOKED_UP] for i in self._where.get(value, ())}
        if any(self._resemblance(self._sketches[i], hashes) >= RESEMBLANCE for i in candidates):
            return "near copy"
        self._normal.add(normal)
        for value in hashes[:LOOKED_UP]:
            places = self._where.setdefault(value, [])
            if len(places) < LOOKED_UP:
                places.append(len(self._sketches))
        self._sketches.append(frozenset(hashes))
        return None

    @staticmethod
    def _resemblance(one: frozenset[int], hashes: tuple[int, ...]) -> float:
        # The share of the smallest hashes of both together that both have.
        smallest = sorted(one.union(hashes))[: max(len(one), len(hashes), 1)]
        both = one.intersection(hashes)
        return sum(value in both for value in smallest) / len(smallest)


@dataclass(frozen=True)
class Selection:
    """What is trained on, what is measured with, and how many files were left out, by reason."""

    documents: list[Document]
    held_out: list[Document]
    dropped: Counter[str]


def select(packages: list[Package], seed: int, workers: int = 1) -> Selection:
    """The documents of all usable packages, in an order that `seed` decides."""
    seen = Seen()
    dropped: Counter[str] = Counter()
    documents: list[Document] = []
    held_out: list[Document] = []
    for package in sorted((p for p in packages if p.usable), key=lambda p: (not p.held_out, p.name)):
        files = list(package.files)
        Random(f"{seed} {package.name}").shuffle(files)
        taken = 0
        for path, found in zip(files, _read_all(files, workers), strict=True):
            if isinstance(found, str):
                dropped[found] += 1
            elif taken > PACKAGE_BYTES:
                dropped["enough of the package"] += 1
            elif reason := seen.copy(found.normal, found.sketch):
                dropped[reason] += 1
            else:
                taken += len(found.text)
                document = Document(package.name, "/".join(path.parts[-2:]), found.text, found.sha256)
                (held_out if package.held_out else documents).append(document)
    Random(seed).shuffle(documents)
    Random(seed).shuffle(held_out)
    return Selection(documents, held_out, dropped)


def _read_all(files: list[Path], workers: int) -> Iterator[_Read | str]:
    if workers < 2 or len(files) < 64:
        yield from map(read, files)
        return
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield from pool.imap(read, files, chunksize=32)

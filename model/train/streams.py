"""Source as endless text: every document once as it stands and once in pieces with a gap, as ids on disk.

plain.u16      all documents, each ended by the end token
gaps.u16       the same documents in pieces of a few thousand characters, each as the product would ask for a gap in it,
               with what belongs there and the end token behind
gaps.u8        for each id of gaps.u16, 1 where it is what belongs into a gap, or the end token behind
gap-order.txt  what is read first around a gap
held_out.u16   as plain.u16, of packages that are never trained on
manifest.json  what all this was made from
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model.errors import ModelUsageError
from model.tokenizer import Tokenizer
from model.train.corpus import Recipe, manifest_of, mapped
from model.train.gaps import any_cut
from model.train.manifest import Manifest, Package
from model.train.select import Document, select

Ids = npt.NDArray[np.uint16]
Marks = npt.NDArray[np.uint8]


class Gaps(NamedTuple):
    """Ids, and 1 for those of them that belong into a gap."""

    ids: Ids
    marks: Marks


PIECE = (300, 12_000)
"""Characters of a piece, at least and at most: up to about what a window holds.

Each magnitude as often as any other. A gap is a few dozen tokens, whatever stands around it: the shorter pieces are,
the more of a window is learned from, and where a gap lies is learned from short ones first.
"""
ORDER = "gap-order.txt"
BUDGET = 3_800
"""Tokens of a piece's prompt at most."""


def pieces(text: str, random: Random) -> list[str]:
    """The text in lines, a random number of characters at a time."""
    found = []
    place = 0
    while place < len(text):
        size = round(math.exp(random.uniform(*(math.log(bound) for bound in PIECE))))
        end = text.find("\n", min(place + size, len(text)))
        end = len(text) if end < 0 else end + 1
        found.append(text[place:end])
        place = end
    return found


def encode_plain(tokenizer: Tokenizer, recipe: Recipe, documents: list[Document], bounds: tuple[int, int]) -> Ids:
    """Documents first to last (exclusive) as they stand."""
    ids: list[int] = []
    for document in documents[bounds[0] : bounds[1]]:
        ids += tokenizer.encode(document.text)
        ids.append(recipe.end_id)
    return np.array(ids, dtype=np.uint16)


def encode_gaps(tokenizer: Tokenizer, recipe: Recipe, documents: list[Document], bounds: tuple[int, int]) -> Gaps:
    """The same in pieces with gaps."""
    ids: list[int] = []
    middles: list[tuple[int, int]] = []
    for i in range(*bounds):
        random = Random(f"{recipe.seed} piece {i}")
        for piece in pieces(documents[i].text, random):
            if cut := any_cut(piece, random):
                ids += recipe.build(tokenizer, cut.prefix, cut.suffix, BUDGET)
                begin = len(ids)
                ids += [*tokenizer.encode(cut.middle), recipe.end_id]
                middles.append((begin, len(ids)))
            else:
                ids += [*tokenizer.encode(piece), recipe.end_id]
    marks = np.zeros(len(ids), dtype=np.uint8)
    for begin, end in middles:
        marks[begin:end] = 1
    return Gaps(np.array(ids, dtype=np.uint16), marks)


def write(folder: Path, packages: list[Package], tokenizer: Tokenizer, recipe: Recipe, workers: int = 1) -> Manifest:
    """Select, encode and cut everything into `folder`; the manifest comes last, so that it says that all is there."""
    if tokenizer.vocab_size > 1 << 16:
        raise ModelUsageError(f"{tokenizer.vocab_size} ids do not fit 16 bits")
    folder.mkdir(parents=True, exist_ok=True)
    selection = select(packages, recipe.seed, workers)
    if not selection.documents:
        raise ModelUsageError("no package here has Python source that may be used")
    tokens = 0
    for name, documents in (("plain", selection.documents), ("held_out", selection.held_out)):
        with (folder / f"{name}.u16").open("wb") as file:
            for ids in mapped(encode_plain, documents, tokenizer, recipe, workers):
                file.write(ids.tobytes())
                tokens += len(ids) if name == "plain" else 0
    with (folder / "gaps.u16").open("wb") as file, (folder / "gaps.u8").open("wb") as marks:
        for gaps in mapped(encode_gaps, selection.documents, tokenizer, recipe, workers):
            file.write(gaps.ids.tobytes())
            marks.write(gaps.marks.tobytes())
            tokens += len(gaps.ids)
    (folder / ORDER).write_text("suffix-first" if tokenizer.suffix_first else "prefix-first", encoding="utf-8")
    manifest = manifest_of(packages, selection, recipe.seed, tokens)
    manifest.write(folder / "manifest.json")
    return manifest


@dataclass(frozen=True)
class Streams:
    """What `write` left in a folder."""

    plain: Ids
    gaps: Gaps
    held_out: Ids
    gap_order: str = "prefix-first"


def open_streams(folder: Path) -> Streams:
    """Mapped, not read."""
    if not all((folder / name).exists() for name in ("manifest.json", ORDER)):
        raise ModelUsageError(f"{folder} holds no finished data: `viable train streams --out {folder}` makes it")
    plain, gaps, held_out = (_mapped_file(folder / f"{name}.u16", np.uint16) for name in ("plain", "gaps", "held_out"))
    marked = Gaps(gaps, _mapped_file(folder / "gaps.u8", np.uint8))
    return Streams(plain, marked, held_out, (folder / ORDER).read_text(encoding="utf-8"))


def _mapped_file(path: Path, kind: type[Any]) -> npt.NDArray[Any]:
    # An empty file cannot be mapped.
    return np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.empty(0, dtype=kind)


class Windows:
    """All windows of `size` numbers of a stream, each once an epoch, in an order that seed and epoch decide."""

    def __init__(self, ids: npt.NDArray[Any], size: int, stride: int, seed: int) -> None:
        self._ids, self._size, self._stride, self._seed = ids, size, stride, seed
        self.count = (len(ids) - size) // stride + 1
        if self.count < 1:
            raise ModelUsageError(f"{len(ids)} tokens are less than one window of {size}")
        self._orders: dict[int, npt.NDArray[np.int64]] = {}

    def __getitem__(self, number: int) -> npt.NDArray[np.int64]:
        """Window `number`, which may be as large as one likes: the epochs follow each other."""
        epoch, place = divmod(number, self.count)
        if epoch not in self._orders:
            order = np.random.default_rng([self._seed, epoch]).permutation(self.count)
            self._orders = {**{k: v for k, v in self._orders.items() if k == epoch - 1}, epoch: order}
        # A shift of its own for every epoch, so that the windows of two epochs are not cut at the same places.
        shift = (epoch * 1009) % self._stride
        start = min(int(self._orders[epoch][place]) * self._stride + shift, len(self._ids) - self._size)
        return self._ids[start : start + self._size].astype(np.int64)

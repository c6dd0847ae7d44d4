"""Documents and gaps as ids on disk, read back where they lie.

documents.u32    all ids, each document ended by the end token
gaps.u32         all samples: the prompt, the middle, the end token
gaps.npy         [samples, 3]: where a sample begins, its length, where its middle begins within it
held_out.u32     as documents.u32, for measuring
frequent.npy     ids by how often they occur, the most frequent first
manifest.json    what all this was made from
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from model.errors import ModelUsageError
from model.tokenizer import Tokenizer
from model.train.gaps import any_cut
from model.train.manifest import Entry, Manifest, Package
from model.train.select import Document, Selection, select

Ids = npt.NDArray[np.uint32]

BuildPrompt = Callable[[Tokenizer, str, str, int], tuple[int, ...]]
"""(tokenizer, prefix, suffix, budget) -> the ids of a prompt, as the product asks for the middle."""

CONTEXTS = ((512, 0.3), (1024, 0.5), (1984, 0.2))
"""Tokens that a sample may have at most, and how often: files are cut as the product cuts them."""
SEEN = 6  # characters left and right of a gap that are encoded at most, for each token of the context
WINDOW = 128  # documents per task


@dataclass(frozen=True)
class Recipe:
    """What is made of the documents."""

    build: BuildPrompt
    end_id: int
    gaps_per_document: float = 2.0
    seed: int = 0


def sample(tokenizer: Tokenizer, text: str, recipe: Recipe, random: Random) -> tuple[list[int], int] | None:
    """A gap of `text` as ids (prompt, middle, end) and where the middle begins; None where no gap was found."""
    cut = any_cut(text, random)
    if cut is None:
        return None
    context = random.choices([size for size, _ in CONTEXTS], [share for _, share in CONTEXTS])[0]
    middle = tokenizer.encode(cut.middle)
    room = context - len(middle) - 1
    if room < 64:
        return None
    prompt = recipe.build(tokenizer, cut.prefix[-SEEN * context :], cut.suffix[: SEEN * context], room)
    return [*prompt, *middle, recipe.end_id], len(prompt)


def write(
    folder: Path, packages: list[Package], tokenizer: Tokenizer, recipe: Recipe, workers: int = 1
) -> tuple[Manifest, Selection]:
    """Select, encode, cut and write everything into `folder`; ModelUsageError where there is nothing to write."""
    folder.mkdir(parents=True, exist_ok=True)
    selection = select(packages, recipe.seed, workers)
    if not selection.documents:
        raise ModelUsageError("no package here has Python source that may be used")
    tokens = _write_documents(folder / "documents.u32", selection.documents, tokenizer, recipe, workers)
    _write_documents(folder / "held_out.u32", selection.held_out, tokenizer, recipe, workers)
    counts = np.bincount(np.fromfile(folder / "documents.u32", dtype=np.uint32), minlength=tokenizer.vocab_size)
    np.save(folder / "frequent.npy", np.argsort(-counts, kind="stable").astype(np.int64))
    _write_gaps(folder, selection.documents, tokenizer, recipe, workers)
    manifest = manifest_of(packages, selection, recipe.seed, tokens)
    manifest.write(folder / "manifest.json")
    return manifest, selection


def manifest_of(packages: list[Package], selection: Selection, seed: int, tokens: int) -> Manifest:
    """What `tokens` tokens were made from."""
    taken: dict[str, list[Document]] = {}
    for document in selection.documents:
        taken.setdefault(document.package, []).append(document)
    by_name = {package.name: package for package in packages}
    size = {name: sum(len(d.text.encode()) for d in documents) for name, documents in taken.items()}
    digest = hashlib.sha256("\n".join(sorted(d.sha256 for d in selection.documents)).encode()).hexdigest()
    return Manifest(
        seed=seed,
        packages=tuple(
            Entry(name, by_name[name].version, by_name[name].licence, len(taken[name]), size[name])
            for name in sorted(taken)
        ),
        refused=tuple(f"{p.name} {p.version}: {p.licence or 'unclear'}" for p in packages if p.files and not p.usable),
        held_out=tuple(f"{p.name} {p.version}" for p in packages if p.held_out),
        dropped=dict(sorted(selection.dropped.items())),
        files=len(selection.documents),
        bytes=sum(size.values()),
        tokens=tokens,
        sha256=digest,
    )


Work = Callable[[Tokenizer, Recipe, list[Document], tuple[int, int]], Any]
"""(tokenizer, recipe, documents, first and last (exclusive) of those that are meant) -> what is made of them."""

# What the worker processes share: set before they are forked, since a tokenizer cannot be sent to them.
_shared: tuple[Work, Tokenizer, Recipe, list[Document]] | None = None


def _call(bounds: tuple[int, int]) -> Any:
    assert _shared is not None
    work, tokenizer, recipe, documents = _shared
    return work(tokenizer, recipe, documents, bounds)


def _encoded(tokenizer: Tokenizer, recipe: Recipe, documents: list[Document], bounds: tuple[int, int]) -> Ids:
    ids: list[int] = []
    for document in documents[bounds[0] : bounds[1]]:
        ids += tokenizer.encode(document.text)
        ids.append(recipe.end_id)
    return np.array(ids, dtype=np.uint32)


def _sampled(
    tokenizer: Tokenizer, recipe: Recipe, documents: list[Document], bounds: tuple[int, int]
) -> list[tuple[Ids, int]]:
    samples = []
    for i in range(*bounds):
        random = Random(f"{recipe.seed} gap {i}")
        share = recipe.gaps_per_document
        for _ in range(int(share) + (random.random() < share % 1)):
            if found := sample(tokenizer, documents[i].text, recipe, random):
                samples.append((np.array(found[0], dtype=np.uint32), found[1]))
    return samples


def mapped(work: Work, documents: list[Document], tokenizer: Tokenizer, recipe: Recipe, workers: int) -> Iterator[Any]:
    """`work` done on all documents, in order, by `workers` processes."""
    global _shared
    _shared = (work, tokenizer, recipe, documents)
    tasks = [(start, min(start + WINDOW, len(documents))) for start in range(0, len(documents), WINDOW)]
    try:
        if workers < 2:
            yield from map(_call, tasks)
        else:
            with multiprocessing.get_context("fork").Pool(workers) as pool:
                yield from pool.imap(_call, tasks)
    finally:
        _shared = None


def _write_documents(path: Path, documents: list[Document], tokenizer: Tokenizer, recipe: Recipe, workers: int) -> int:
    count = 0
    with path.open("wb") as file:
        for ids in mapped(_encoded, documents, tokenizer, recipe, workers):
            file.write(ids.tobytes())
            count += len(ids)
    return count


def _write_gaps(folder: Path, documents: list[Document], tokenizer: Tokenizer, recipe: Recipe, workers: int) -> None:
    table = []
    place = 0
    with (folder / "gaps.u32").open("wb") as file:
        for samples in mapped(_sampled, documents, tokenizer, recipe, workers):
            for ids, middle in samples:
                file.write(ids.tobytes())
                table.append((place, len(ids), middle))
                place += len(ids)
    np.save(folder / "gaps.npy", np.array(table, dtype=np.int64).reshape(-1, 3))


class Corpus:
    """What `write` left in a folder."""

    def __init__(self, folder: Path) -> None:
        self.documents = _mapped_file(folder / "documents.u32")
        self.held_out = _mapped_file(folder / "held_out.u32")
        self.gap_ids = _mapped_file(folder / "gaps.u32")
        self.gaps: npt.NDArray[np.int64] = np.load(folder / "gaps.npy")
        self.frequent: npt.NDArray[np.int64] = np.load(folder / "frequent.npy")

    def gap(self, index: int) -> tuple[Ids, int]:
        """Sample `index`: its ids, and where its middle begins."""
        start, length, middle = (int(x) for x in self.gaps[index])
        return self.gap_ids[start : start + length], middle


def _mapped_file(path: Path) -> Ids:
    # An empty file cannot be mapped.
    return np.memmap(path, dtype=np.uint32, mode="r") if path.stat().st_size else np.empty(0, dtype=np.uint32)

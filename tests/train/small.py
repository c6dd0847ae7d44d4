"""A tiny decoder and a tiny corpus, in memory and on disk."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import torch

import model as models
from assistant import prompt
from model import Decoder, Tokenizer
from model.train.corpus import Corpus, Recipe, sample
from tests.tiny import write_tiny_gguf

SOURCE = Path(__file__).read_text(encoding="utf-8")


def decoder(folder: Path, **changes: object) -> tuple[Decoder, Tokenizer, Path]:
    """A random decoder with 2 layers of width 64, fp32."""
    path = write_tiny_gguf(folder, **changes)
    return models.load(path, "cpu", "float32"), models.load_tokenizer(path), path


def corpus(folder: Path, tokenizer: Tokenizer, gaps: int = 40) -> Corpus:
    """This file's text as a corpus, held-out text included: nothing is measured with it."""
    folder.mkdir(parents=True, exist_ok=True)
    end = tokenizer.specials["<|endoftext|>"]
    recipe = Recipe(lambda *a: prompt.build(*a).ids, end)
    ids = np.array([*tokenizer.encode(SOURCE), end] * 3, dtype=np.uint32)
    for name in ("documents.u32", "held_out.u32"):
        ids.tofile(folder / name)
    counts = np.bincount(ids, minlength=tokenizer.vocab_size)
    np.save(folder / "frequent.npy", np.argsort(-counts, kind="stable").astype(np.int64))
    table, flat = [], list[int]()
    for seed in range(gaps):
        if found := sample(tokenizer, SOURCE[:150], recipe, Random(seed)):
            table.append((len(flat), len(found[0]), found[1]))
            flat += found[0]
    np.array(flat, dtype=np.uint32).tofile(folder / "gaps.u32")
    np.save(folder / "gaps.npy", np.array(table, dtype=np.int64))
    return Corpus(folder)


def ids_like(tokenizer: Tokenizer, rows: int, time: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, time), generator=generator)

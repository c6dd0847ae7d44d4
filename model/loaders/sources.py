"""A checkpoint as the loader sees it: a config, a table of names, and rows of numbers on demand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.config import FAMILIES, Biases, ModelConfig, from_config_json, from_gguf
from model.errors import BadModelFile, ModelNotFound, UnsupportedModel, printable
from model.loaders import ggml, names
from model.loaders.gguf import GGUF

Precision = Literal["float32", "bfloat16", "quantised"]


class Source(Protocol):
    """An opened checkpoint."""

    config: ModelConfig
    table: names.Table
    rotary_interleaved: bool
    precision: Precision  # what most of its weights are kept in

    def names(self) -> Iterable[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Numbers [stop - start, columns] in a float dtype; a vector is one row."""
        ...

    def stored(self, name: str) -> tuple[Tensor, ggml.Kind]:
        """All rows as they are stored, uint8 [rows, bytes per row], and how to read them."""
        ...


def open_source(path: Path) -> Source:
    """A GGUF file or a folder with `config.json` and safetensors."""
    if path.is_dir():
        return SafetensorsSource(path)
    if path.suffix == ".safetensors":
        raise ModelNotFound(f"{path.name} alone does not say what it is: give the folder with its config.json")
    return GGUFSource(path)


class GGUFSource:
    """A GGUF file. `file.metadata` also holds the tokenizer."""

    def __init__(self, path: Path) -> None:
        self.file = GGUF(path)
        tensors = self.file.tensors
        if "token_embd.weight" not in tensors:
            raise BadModelFile(f"{path.name} has no token_embd.weight: not a language model?")
        factors = None
        if "rope_freqs.weight" in tensors:
            factors = tuple(self.rows("rope_freqs.weight", 0, 1)[0].tolist())
        self.config = from_gguf(
            self.file.metadata,
            vocab_size=self.shape("token_embd.weight")[0],
            tied_head="output.weight" not in tensors,
            biases=Biases.among(tensors),
            factors=factors,
        )
        self.table = names.GGUF
        self.rotary_interleaved = FAMILIES[self.config.family].gguf_rotary_interleaved
        kinds = {entry.kind for entry in tensors.values() if len(entry.shape) > 1}
        self.precision: Precision = "float32"
        if any(kind.quantised for kind in kinds):
            self.precision = "quantised"
        elif any(kind.name != "F32" for kind in kinds):
            self.precision = "bfloat16"

    def names(self) -> Iterable[str]:
        return self.file.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return self.file.tensors[name].shape

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        return self.file.rows(name, start, stop)

    def stored(self, name: str) -> tuple[Tensor, ggml.Kind]:
        return self.file.mapped(name), self.file.tensors[name].kind


_KINDS = {kind.name: kind for kind in ggml.KINDS.values() if not kind.quantised}


class SafetensorsSource:
    """A folder with `config.json` and `model.safetensors`, or an index of several files."""

    def __init__(self, folder: Path) -> None:
        config = folder / "config.json"
        if not config.exists():
            raise ModelNotFound(f"{folder} has no config.json: not a model folder?")
        self.config = from_config_json(_json(config))
        self.table = names.HUB
        self.rotary_interleaved = False
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._where: dict[str, Any] = {}
        kinds: set[str] = set()
        for file in _shards(folder):
            kinds |= self._open(file)
        self.precision: Precision = "float32" if kinds == {"F32"} else "bfloat16"

    def _open(self, path: Path) -> set[str]:
        kinds = set()
        try:
            opened = safe_open(path, framework="pt")
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                view = opened.get_slice(name)
                kind = view.get_dtype()
                if kind not in _KINDS:
                    raise UnsupportedModel(f"tensor {printable(name)} is stored as {kind}; known: {', '.join(_KINDS)}")
                kinds.add(kind)
                self._shapes[name] = tuple(view.get_shape())
                self._where[name] = view
        except FileNotFoundError:
            raise ModelNotFound(f"no such file: {path}") from None
        except (SafetensorError, OSError) as error:
            raise BadModelFile(f"{path.name}: {error}") from None
        return kinds

    def names(self) -> Iterable[str]:
        return self._shapes

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        view = self._where[name]
        rows: Tensor = view[start:stop] if len(self._shapes[name]) > 1 else view[:].unsqueeze(0)
        return rows

    def stored(self, name: str) -> tuple[Tensor, ggml.Kind]:
        view = self._where[name]
        rows: Tensor = view[:]
        return rows.view(torch.uint8), _KINDS[view.get_dtype()]


def _shards(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [folder / "model.safetensors"]
    listed = _json(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise BadModelFile(f"{index.name} has no weight_map of file names")
    files = sorted(set(listed.values()))
    for name in files:
        if Path(name).name != name:
            raise BadModelFile(f"{index.name} points outside its folder: {printable(name)}")
    return [folder / name for name in files]


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise BadModelFile(f"{path.name}: {error}") from None
    if not isinstance(values, dict):
        raise BadModelFile(f"{path.name} does not hold an object")
    return values

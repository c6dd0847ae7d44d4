"""A checkpoint as the loader sees it: a config, a table of names, and rows of numbers on demand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.config import Biases, ModelConfig, from_config_json, from_gguf
from model.config.parts import LARGEST_WIDTH
from model.errors import BadModelFile, ModelNotFound, UnsupportedModel, printable
from model.loaders import ggml, names, storage
from model.loaders.files import ordinary, read_json
from model.loaders.gguf import opened

Precision = Literal["float32", "bfloat16", "quantised", "codes"]


class Source(Protocol):
    """An opened checkpoint."""

    config: ModelConfig
    table: names.Table
    precision: Precision  # what most of its weights are kept in

    def pairs(self, name: str) -> names.Pairs | None:
        """Where the rows of a tensor alternate between two halves."""
        ...

    def names(self) -> Iterable[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Numbers [stop - start, columns] in a float dtype; a vector is one row."""
        ...

    def stored(self, name: str) -> tuple[Tensor, ggml.Kind]:
        """All rows as they are stored, uint8 [rows, bytes per row], and how to read them."""
        ...

    def kind(self, name: str) -> ggml.Kind:
        """How its rows are stored."""
        ...

    def raw(self, name: str, start: int, stop: int) -> Tensor:
        """Some rows as they are stored, uint8 [stop - start, bytes per row]."""
        ...

    def picked(self, name: str, rows: Sequence[int]) -> Tensor:
        """Numbers [n, columns] of some rows, in a float dtype."""
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
        self.file = opened(path)
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
        kinds = {entry.kind for entry in tensors.values() if len(entry.shape) > 1}
        self.precision: Precision = "float32"
        if any(kind.quantised for kind in kinds):
            self.precision = "quantised"
        elif any(kind.name != "F32" for kind in kinds):
            self.precision = "bfloat16"

    def pairs(self, name: str) -> names.Pairs | None:
        return names.gguf_pairs(self.config, name)

    def names(self) -> Iterable[str]:
        return self.file.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return self.file.tensors[name].shape

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        return self.file.rows(name, start, stop)

    def stored(self, name: str) -> tuple[Tensor, ggml.Kind]:
        return self.file.mapped(name), self.kind(name)

    def kind(self, name: str) -> ggml.Kind:
        return self.file.tensors[name].kind

    def raw(self, name: str, start: int, stop: int) -> Tensor:
        return self.file.raw(name, start, stop)

    def picked(self, name: str, rows: Sequence[int]) -> Tensor:
        return self.file.picked(name, rows)


class SafetensorsSource:
    """A folder with `config.json` and `model.safetensors`, or an index of several files."""

    def __init__(self, folder: Path) -> None:
        path = folder / "config.json"
        if not path.exists():
            raise ModelNotFound(f"{folder} has no config.json: not a model folder?")
        written = read_json(path)
        self.config = from_config_json(written)
        self.table = names.hub(self.config)
        self._tensors = storage.stored(_views(_shards(folder)), _fp8_block(written))
        kinds = {tensor.precision for tensor in self._tensors.values()}
        self.precision: Precision = "float32" if kinds == {"F32"} else "bfloat16"
        for kind in ("quantised", "codes"):
            if kind in kinds:
                self.precision = kind

    def pairs(self, name: str) -> names.Pairs | None:
        return names.hub_pairs(self.config, name)

    def names(self) -> Iterable[str]:
        return self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        return self._tensors[name].rows(start, stop)

    def stored(self, name: str) -> tuple[Tensor, ggml.Kind]:
        return self.raw(name, 0, self.shape(name)[0]), self.kind(name)

    def kind(self, name: str) -> ggml.Kind:
        return self._tensors[name].kind

    def raw(self, name: str, start: int, stop: int) -> Tensor:
        return self._tensors[name].raw(start, stop)

    def picked(self, name: str, rows: Sequence[int]) -> Tensor:
        stored, kind = self.stored(name)
        return kind.numbers(stored[list(rows)])


def _views(paths: Iterable[Path]) -> dict[str, Any]:
    """Name -> a view of the tensor, from all files."""
    found = {}
    for path in paths:
        try:
            opened = safe_open(ordinary(path), framework="pt")
            found.update({name: opened.get_slice(name) for name in opened.keys()})  # noqa: SIM118 - not a mapping
        except FileNotFoundError:
            raise ModelNotFound(f"no such file: {path}") from None
        except (SafetensorError, OSError) as error:
            raise BadModelFile(f"{path.name}: {error}") from None
    return found


def _fp8_block(config: dict[str, Any]) -> tuple[int, int] | None:
    """Rows and columns that share a factor; None if the checkpoint is not in FP8."""
    quantisation = config.get("quantization_config")
    if not isinstance(quantisation, dict):
        return None
    if (method := quantisation.get("quant_method")) != "fp8":
        raise UnsupportedModel(f"quantization_config has method {printable(repr(method))} (known: 'fp8')")
    block = quantisation.get("weight_block_size")
    if not (
        isinstance(block, list)
        and len(block) == 2
        and all(isinstance(n, int) and 0 < n <= LARGEST_WIDTH for n in block)
    ):
        raise UnsupportedModel(f"quantization_config has weight_block_size {printable(repr(block))}, not two numbers")
    return block[0], block[1]


def _shards(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [folder / "model.safetensors"]
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise BadModelFile(f"{index.name} has no weight_map of file names")
    files = sorted(set(listed.values()))
    for name in files:
        if Path(name).name != name:
            raise BadModelFile(f"{index.name} points outside its folder: {printable(name)}")
    return [folder / name for name in files]

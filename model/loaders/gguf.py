"""The GGUF container: metadata and a table of tensors, read where they lie.

Nothing in the file is believed before it is checked against the file's size: a count that cannot fit, a string that
runs over the end, a tensor outside the data are BadModelFile, found before anything is allocated for them. Tensors
are read slice by slice, so that they cost memory only while they are being used. Source: the GGUF specification,
versions 2 and 3.

The `gguf` package reads the same files, and the tests compare with it, but it makes two NumPy views for each string:
six seconds for a vocabulary of 152 k tokens, against a fifth of a second here.
"""

from __future__ import annotations

import mmap
import struct
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.errors import BadModelFile, ModelNotFound, printable
from model.loaders import ggml
from model.loaders.files import ordinary

MAX_ENTRIES = 65_536  # metadata keys, and tensors: real files have dozens and hundreds
MAX_NAME = 65_535  # bytes of a key or tensor name, from the specification
MAX_LENGTH = 1 << 22  # items of a metadata array: vocabularies have hundreds of thousands
MAX_DIMENSIONS = 4

_FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_SCALARS = {number: struct.Struct("<" + code) for number, code in _FORMS.items()}
_STRING, _ARRAY = 8, 9
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True)
class Entry:
    """One tensor of the table. `shape` is row-major: [rows, columns] for a matrix."""

    name: str
    kind: ggml.Kind
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    size: int  # bytes

    @property
    def rows(self) -> int:
        return self.shape[0] if len(self.shape) > 1 else 1


_opened: weakref.WeakValueDictionary[tuple[Path, int, int], GGUF] = weakref.WeakValueDictionary()


def opened(path: Path) -> GGUF:
    """The file, as it was read before if somebody still has it and it has not changed."""
    try:
        now = path.stat()
    except OSError:
        return GGUF(path)  # which says what is wrong with it
    key = (path.absolute(), now.st_mtime_ns, now.st_size)
    found = _opened.get(key)
    if found is None:
        found = _opened[key] = GGUF(path)
    return found


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Inside the block a GGUF file is read once, whoever opens it."""
    kept = opened(path) if path.is_file() else None
    yield
    del kept


class GGUF:
    """An open file: `metadata`, `tensors`, and the numbers of any range of rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = ordinary(path).open("rb", buffering=0)
            weakref.finalize(self, self._file.close)
            self._reading = threading.Lock()  # a file has one place at a time
            # A private, writable map: torch asks for writable memory, and nothing here ever writes.
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            raise ModelNotFound(f"no such file: {path}") from None
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise BadModelFile(f"cannot read {path}: {error}") from None
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, Entry] = {}
        try:
            self._read_header()
        except BadModelFile as error:
            raise BadModelFile(f"{path.name}: {error}") from None
        self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)

    def mapped(self, name: str) -> Tensor:
        """uint8 [rows, bytes per row], the file's own memory: what is touched is read, and stays."""
        entry = self.tensors[name]
        return self._bytes[entry.start : entry.start + entry.size].view(entry.rows, -1)

    def picked(self, name: str, rows: Sequence[int]) -> Tensor:
        """Numbers [n, columns] of some rows, read one by one: through the map, what lies around them would come too."""
        entry = self.tensors[name]
        size = entry.size // entry.rows
        return entry.kind.numbers(self._read(entry, [(entry.start + size * row, size) for row in rows]))

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Numbers [stop - start, columns]; a vector is one row."""
        return self.tensors[name].kind.numbers(self.raw(name, start, stop))

    def raw(self, name: str, start: int, stop: int) -> Tensor:
        """The same as they are in the file, uint8 [stop - start, bytes per row]."""
        entry = self.tensors[name]
        size = entry.size // entry.rows
        return self._read(entry, [(entry.start + size * start, size * (stop - start))])

    def _read(self, entry: Entry, places: Sequence[tuple[int, int]]) -> Tensor:
        """The rows in so many bytes from there on, place by place."""
        buffer = bytearray(sum(size for _, size in places))
        view, end, read = memoryview(buffer), 0, 0
        with self._reading:
            for start, size in places:
                self._file.seek(start)
                read += self._file.readinto(view[end : end + size]) or 0
                end += size
        if read != len(buffer):  # cut off since it was opened
            raise BadModelFile(f"{self.path.name}: tensor {printable(entry.name)} cannot be read to its end")
        return torch.frombuffer(buffer, dtype=torch.uint8).view(-1, entry.size // entry.rows)

    def _read_header(self) -> None:
        cursor = _Cursor(self._map)
        if cursor.take(4, "the magic number") != b"GGUF":
            raise BadModelFile("not a GGUF file")
        version = cursor.scalar(_U32, "the version")
        if version not in (2, 3):
            hint = " (big-endian files are not read)" if version & 0xFFFF == 0 else ""
            raise BadModelFile(f"GGUF version {version}; known: 2, 3{hint}")
        tensors = cursor.count("tensors", least=24)
        entries = cursor.count("metadata entries", least=13)
        for _ in range(entries):
            key = cursor.name("a metadata key")
            if key in self.metadata:
                raise BadModelFile(f"metadata key {printable(key)} appears twice")
            self.metadata[key] = cursor.value(cursor.scalar(_U32, "a type"), f"metadata {printable(key)}")
        table = [self._read_entry(cursor) for _ in range(tensors)]
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            raise BadModelFile(f"alignment is {printable(repr(alignment))}, not a power of two")
        data = -(-cursor.place // alignment) * alignment
        for name, kind, shape, offset in table:
            if name in self.tensors:
                raise BadModelFile(f"tensor {printable(name)} appears twice")
            self.tensors[name] = self._checked(name, kind, shape, data + offset)

    def _read_entry(self, cursor: _Cursor) -> tuple[str, int, tuple[int, ...], int]:
        name = cursor.name("a tensor's name")
        what = f"tensor {printable(name)}"
        dimensions = cursor.scalar(_U32, what)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise BadModelFile(f"{what} has {dimensions} dimensions; expected 1 to {MAX_DIMENSIONS}")
        # GGUF names the fastest-running dimension first.
        shape = tuple(cursor.scalar(_U64, what) for _ in range(dimensions))[::-1]
        return name, cursor.scalar(_U32, what), shape, cursor.scalar(_U64, what)

    def _checked(self, name: str, number: int, shape: tuple[int, ...], start: int) -> Entry:
        what = f"tensor {printable(name)}"
        kind = ggml.kind(number, printable(name))
        if min(shape) < 1:
            raise BadModelFile(f"{what} has shape {list(shape)}")
        columns = shape[-1]
        if columns % kind.values:
            raise BadModelFile(f"{what}: rows of {columns} are not whole blocks of {kind.values} ({kind.name})")
        size = kind.row_bytes(columns)
        for n in shape[:-1]:
            size *= n
        if start + size > len(self._map):
            raise BadModelFile(f"{what} ends at byte {start + size:,}, but the file has {len(self._map):,}: truncated?")
        return Entry(name, kind, shape, start, size)


class _Cursor:
    """Reads forward through the header; every step is checked against the file's end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.place = 0

    def left(self) -> int:
        return len(self.data) - self.place

    def take(self, size: int, what: str) -> bytes:
        if size > self.left():
            raise BadModelFile(f"{what} needs {size:,} bytes, but {self.left():,} are left: truncated?")
        self.place += size
        return self.data[self.place - size : self.place]

    def scalar(self, form: struct.Struct, what: str) -> Any:
        return form.unpack(self.take(form.size, what))[0]

    def count(self, what: str, least: int) -> int:
        """A number of things that take at least `least` bytes each."""
        number: int = self.scalar(_U64, f"the number of {what}")
        if number > MAX_ENTRIES or number * least > self.left():
            raise BadModelFile(f"{number:,} {what} cannot be: {self.left():,} bytes are left")
        return number

    def name(self, what: str) -> str:
        size: int = self.scalar(_U64, what)
        if size > MAX_NAME:
            raise BadModelFile(f"{what} is {size:,} bytes long; expected at most {MAX_NAME:,}")
        return _text(self.take(size, what), what)

    def value(self, number: int, what: str) -> Any:
        if number == _STRING:
            return _text(self.take(self.scalar(_U64, what), what), what)
        if number == _ARRAY:
            return self.array(what)
        if number not in _SCALARS:
            raise BadModelFile(f"{what} is of type {number}, which GGUF does not define")
        return self.scalar(_SCALARS[number], what)

    def array(self, what: str) -> list[Any]:
        number, length = self.scalar(_U32, what), self.scalar(_U64, what)
        if length > MAX_LENGTH:
            raise BadModelFile(f"{what} claims {length:,} items; expected at most {MAX_LENGTH:,}")
        if number == _STRING:
            if length * _U64.size > self.left():
                raise BadModelFile(f"{what} claims {length:,} strings, but {self.left():,} bytes are left")
            return self.strings(length, what)
        if number not in _SCALARS:
            raise BadModelFile(f"{what} is an array of type {number}, which is not read here")
        form = _SCALARS[number]
        data = self.take(form.size * length, what)
        return [value for (value,) in form.iter_unpack(data)]

    def strings(self, length: int, what: str) -> list[str]:
        # The vocabulary and the merges: a few hundred thousand strings, hence the plain loop.
        data, place, end = self.data, self.place, len(self.data)
        unpack = _U64.unpack_from
        found = []
        for _ in range(length):
            if place + 8 > end:
                raise BadModelFile(f"{what} runs over the end of the file: truncated?")
            (size,) = unpack(data, place)
            place += 8
            if size > end - place:
                raise BadModelFile(f"{what} holds a string of {size:,} bytes, but {end - place:,} are left")
            found.append(data[place : place + size])
            place += size
        self.place = place
        return [_text(item, what) for item in found]


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadModelFile(f"{what} is not UTF-8: {printable(repr(data))}") from None

"""The output file: lines are appended, each safely on the disk before the next is appended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import filelock
import msgspec

from assistant.batch.answers import Line, is_failed, key_of, read_line
from assistant.changes import write_whole
from assistant.errors import UsageProblem, ViableError

_BEGINNINGS = (b'{"task_id":', b'{"id":"viable-')
"""How every line begins: what is left of a first line that was torn can be told from other files by it."""


class Journal:
    """An output file that can be killed at any byte: what is whole stays, what is torn is cut off at the next start.

    Lines are found by their keys; of two with the same key, the later one counts. Locked while it is open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repaired = 0
        """Bytes of a torn last line, cut off when the file was opened."""
        self.failed: set[str] = set()
        """Keys of the lines that have an error."""
        self._places: dict[str, tuple[int, int]] = {}
        """Key -> where its line begins and ends, in bytes."""
        self._order: list[str | None] = []
        """Key of each line in the file; None for one that cannot be read."""
        self._lock = filelock.FileLock(f"{path}.lock")
        self._descriptor = -1
        self._end = 0

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> Line:
        """The line with a key. KeyError if there is none."""
        line = read_line(self._bytes(key))
        assert line is not None, "only lines that could be read have a place"
        return line

    def __enter__(self) -> Journal:
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ViableError(f"{self.path}: another `viable batch` is writing it") from None
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            self._open()
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        self._unlock()

    def _unlock(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._lock.lock_file)
        self._lock.release()

    def _open(self) -> None:
        try:
            data = self.path.read_bytes() if self.path.exists() else b""
            self._read(data)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            if self._end < len(data):
                self.repaired = len(data) - self._end
                os.ftruncate(self._descriptor, self._end)
            os.fsync(self._descriptor)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def _read(self, data: bytes) -> None:
        *whole, torn = data.split(b"\n")
        for text in whole:
            self._add(read_line(text), len(text) + 1)
        if not (any(self._order) if whole else any(torn == b[: len(torn)] or torn.startswith(b) for b in _BEGINNINGS)):
            raise UsageProblem(f"{self.path}: is no output of `viable batch`; it is left as it is")

    def _add(self, line: Line | None, length: int) -> None:
        begin, self._end = self._end, self._end + length
        key = key_of(line) if line else None
        self._order.append(key)
        if line and key:
            self._places[key] = begin, self._end
            (self.failed.add if is_failed(line) else self.failed.discard)(key)

    def _bytes(self, key: str) -> bytes:
        begin, end = self._places[key]
        return os.pread(self._descriptor, end - begin, begin)

    def append(self, line: Line) -> None:
        """Add a line, and wait until the disk has it. A line that does not fit on the disk leaves nothing behind."""
        data = msgspec.json.encode(line) + b"\n"
        try:
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise _unwritable(self.path, error) from None
        self._add(line, len(data))

    def settle(self, keys: Sequence[str]) -> int:
        """Bring the lines into the order of `keys`, if they are not; returns how many had to leave the file.

        Lines of other keys go to a file beside it, `NAME.stale`. The new file takes the old one's place at once.
        """
        wanted = [key for key in keys if key in self]
        if self._order == wanted:
            return 0
        stale = self._places.keys() - set(keys)
        try:
            if stale:
                with open(f"{self.path}.stale", "ab") as file:
                    file.writelines(self._bytes(key) for key in self._places if key in stale)
                    file.flush()
                    os.fsync(file.fileno())
            self._rewrite(wanted)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        return len(stale)

    def _rewrite(self, keys: Sequence[str]) -> None:
        write_whole(self.path, b"".join(self._bytes(key) for key in keys))
        _sync_folder(self.path.resolve().parent)
        sizes = {key: end - begin for key, (begin, end) in self._places.items()}
        os.close(self._descriptor)
        self._descriptor = os.open(self.path, os.O_RDWR)
        self._order, self._places, self._end = [], {}, 0
        for key in keys:
            self._order.append(key)
            self._places[key] = self._end, self._end + sizes[key]
            self._end += sizes[key]
        self.failed &= self._places.keys()


def _sync_folder(folder: Path) -> None:
    """Make a new or renamed file's name last through a power cut. Some systems cannot open folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> ViableError:
    reason = (error.strerror or str(error)).lower()
    try:
        some = path.stat().st_size > 0
    except OSError:
        some = False
    return ViableError(f"{path}: {reason}; its whole rows are kept" if some else f"{path}: not written: {reason}")

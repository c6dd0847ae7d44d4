"""Other interpreters as judges: one persistent process for each version of Python that this machine has.

The running interpreter is always there. Others are found as `python3.X` on the PATH, in the directories that
`VIABLE_PYTHONS` names (separated like the PATH), under `~/.pyenv/versions`, and, for 3.14, as the npm package
`pyodide` in a `node_modules` of the working directory or of `VIABLE_PYODIDE`.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from assistant.bench.snippets import VERSIONS, Version

RUNNING: Version = (sys.version_info[0], sys.version_info[1])

_HERE = Path(__file__).resolve().parent
_WORKER = _HERE / "oracle_worker.py"
_PACKAGE = _HERE.parents[1] / "validators"
_NAME = "import sys; print(sys.version_info[0], sys.version_info[1], sys.implementation.name)"


class SyntaxProblem(NamedTuple):
    """Why a text does not parse."""

    line: int
    column: int
    message: str

    @property
    def gave_up(self) -> bool:
        """Was the text too deep for that parser, or a tree that 3.12.1 builds and then finds to be wrong?"""
        return self.message.startswith(("MemoryError", "RecursionError", "ValueError: field"))


class Viability(NamedTuple):
    """How far a text is viable, as far as that version's parser can say."""

    accepted: int
    complaint: str | None


class Oracle:
    """One interpreter, started when it is first asked."""

    def __init__(self, version: Version, command: Sequence[str]) -> None:
        self.version = version
        self.command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def exact(self) -> bool:
        """Are refusals by `viable` complete? Before 3.11 some texts that nothing can follow pass for viable."""
        return self.version >= (3, 11)

    def parse(self, text: str) -> SyntaxProblem | None:
        """None if `ast.parse` of that version accepts `text`."""
        return self.parse_all([text])[0]

    def parse_all(self, texts: Sequence[str]) -> list[SyntaxProblem | None]:
        return [answer and SyntaxProblem(*answer) for answer in self._ask("parse", texts)]

    def viable(self, text: str) -> Viability:
        """The reference validator's verdict on `text`, run by that version."""
        return self.viable_all([text])[0]

    def viable_all(self, texts: Sequence[str]) -> list[Viability]:
        return [Viability(*answer) for answer in self._ask("viable", texts)]

    def ending(self, text: str) -> str | None:
        """A text that makes `text` parse, by that version's reference validator; None if it knows none."""
        found: str | None = self._ask("ending", [text])[0]
        return found

    def joining(self, left: str, right: str) -> str | None:
        """A text between these two that makes them parse, by that version's reference; None if it knows none."""
        found: str | None = self._ask("joining", [left, right])[0]
        return found

    def library(self) -> Path:
        """Where that version's standard library lies; a directory that does not exist where it is not on disk."""
        return Path(self._ask("library", [])[0])

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _ask(self, operation: str, texts: Sequence[str]) -> Any:
        if self._process is None:
            environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
            atexit.register(self.close)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        request = json.dumps({"op": operation, "texts": list(texts)}).encode()
        stdin.write(struct.pack(">I", len(request)) + request)
        stdin.flush()
        head = stdout.read(4)
        if len(head) < 4:
            raise RuntimeError(f"{self.command[0]} stopped while it was asked about {texts!r:.2000}")
        answer = json.loads(stdout.read(struct.unpack(">I", head)[0]))
        if isinstance(answer, dict):
            raise RuntimeError(f"{self.command[0]} was asked about {texts!r:.2000}: {answer['error']}")
        return answer


@cache
def oracles() -> dict[Version, Oracle]:
    """What this machine has, by version. The processes end with this one."""
    commands = {RUNNING: [sys.executable]}
    for candidate in _candidates():
        if _named(candidate) not in commands and (version := _version(candidate)) in VERSIONS:
            commands.setdefault(version, [str(candidate)])
    found = {version: Oracle(version, [*command, str(_WORKER), str(_PACKAGE)]) for version, command in commands.items()}
    node, pyodide = shutil.which("node"), _pyodide()
    if node and pyodide and (3, 14) not in found:
        command = [node, str(_HERE / "data" / "pyodide.mjs"), str(pyodide), str(_WORKER), str(_PACKAGE)]
        found[3, 14] = Oracle((3, 14), command)
    return dict(sorted(found.items()))


def missing() -> list[Version]:
    """The versions that nothing here can judge."""
    return [version for version in VERSIONS if version not in oracles()]


def _candidates() -> list[Path]:
    names = [f"python3.{minor}" for _, minor in VERSIONS]
    found = [Path(path) for name in names if (path := shutil.which(name))]
    directories = [Path(part) for part in os.environ.get("VIABLE_PYTHONS", "").split(os.pathsep) if part]
    directories += sorted(Path.home().glob(".pyenv/versions/*/bin"))
    for directory in directories:
        named = [directory / name for name in names if (directory / name).is_file()]
        found += named or [path for path in [directory / "python3"] if path.is_file()]
    return found


def _named(executable: Path) -> Version | None:
    """The version that a file name such as `python3.12` promises."""
    _, dot, minor = executable.name.partition("3.")
    return (3, int(minor)) if dot and minor.isdigit() else None


@cache
def _version(executable: Path) -> Version | None:
    """The version of an interpreter; None if it is no CPython, or does not start."""
    finished = subprocess.run(
        [executable, "-c", _NAME], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
    )
    words = finished.stdout.split()
    return (int(words[0]), int(words[1])) if finished.returncode == 0 and words[2:] == ["cpython"] else None


def _pyodide() -> Path | None:
    """The directory of the npm package, if it brings 3.14."""
    for directory in (os.environ.get("VIABLE_PYODIDE", ""), "."):
        package = Path(directory, "node_modules", "pyodide")
        if directory and (package / "package.json").is_file():
            version = json.loads((package / "package.json").read_text())["version"]
            if str(version).startswith("314."):
                return package.resolve()
    return None

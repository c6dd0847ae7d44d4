"""What other files say that a file needs: the definitions of names that it imports, and what open files define.

Only files of the same project are read: those that an import finds from the file's own folder upwards to the folder
around its package, or in the workspace. What the standard library and installed packages define, a model knows better
than a few lines could tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from assistant.outline import LARGEST, Import, Outline, imports, outline

INSTALLED = frozenset(("site-packages", "dist-packages"))
"""Folders whose packages are each others' strangers."""
STEPS = 3
"""Files that a name is followed through that is imported from where it was imported."""


@dataclass(frozen=True)
class Excerpt:
    """Definitions of one file, those worth most first."""

    path: str
    """As the model is to read it: relative to the project, with slashes."""
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Surroundings:
    """What stands around a file."""

    project: str = ""
    path: str = ""
    """The file's own."""
    excerpts: tuple[Excerpt, ...] = ()


def nothing() -> Surroundings:
    """A file that stands alone."""
    return Surroundings()


def on_disk(path: Path) -> str | None:
    """The text of a file; None where there is none that could be read."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Project:
    """Where a file is, and how others are read."""

    path: Path
    """The edited file's, absolute."""
    workspace: Path | None = None
    read: Callable[[Path], str | None] = on_disk
    """The editor's own text of a file goes before the disk's; None for files that are not to be read."""
    open: tuple[Path, ...] = ()
    """Files that the user looks at, the latest first."""
    _outlines: dict[Path, Outline] = field(default_factory=dict)

    def surroundings(self, text: str) -> Surroundings:
        """What `text`, the file's as it is now, is helped by. Imported definitions first, then those of open files."""
        found: dict[Path, dict[str, str]] = {}
        for each in imports(text):
            for path, name, said in self.definitions(each, text):
                found.setdefault(path, {})[name] = said
        for path in self.open:
            if path != self.path and path not in found and (definitions := self._outline(path).definitions):
                found[path] = dict(definitions)
        excerpts = tuple(Excerpt(self._shown(path), tuple(said.values())) for path, said in found.items())
        return Surroundings(self._top.name, self._shown(self.path), excerpts)

    @property
    def _top(self) -> Path:
        """The folder around the outermost package that the file is in, or the workspace around that."""
        folder = self.path.parent
        while (folder / "__init__.py").is_file() and folder != folder.parent:
            folder = folder.parent
        if self.workspace and folder.is_relative_to(self.workspace):
            return self.workspace
        return folder

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._top).as_posix() if path.is_relative_to(self._top) else path.name

    def _roots(self, module: str) -> Iterator[Path]:
        """Folders in which an absolute import may begin."""
        folder = self.path.parent
        yield folder
        while (folder / "__init__.py").is_file() and folder != folder.parent:
            inner, folder = folder, folder.parent
            if folder.name not in INSTALLED or module.partition(".")[0] == inner.name:
                yield folder
        if self.workspace:
            yield from (self.workspace, self.workspace / "src")

    def _found(self, module: str, origin: Path) -> Path | None:
        """The file of a module that is imported in the file `origin`."""
        dots = len(module) - len(module.lstrip("."))
        parts = [part for part in module.split(".") if part]
        if dots:
            bases: Iterable[Path] = [origin.parents[dots - 1]] if dots <= len(origin.parents) else []
        else:
            bases = self._roots(module)
        for base in bases:
            target = base.joinpath(*parts)
            for path in (*([target.with_suffix(".py")] if parts else []), target / "__init__.py"):
                if path != self.path and path.is_file():
                    return path
        return None

    def definitions(self, each: Import, text: str) -> Iterator[tuple[Path, str, str]]:
        """The definitions that an import brings, with their files."""
        submodule = f"{each.module}{'' if each.module.endswith('.') else '.'}{each.name}" if each.name else each.module
        if path := self._found(submodule, self.path):
            definitions = self._outline(path).definitions
            for name in _attributes(each.bound, text):
                if name in definitions:
                    yield path, name, definitions[name]
        elif each.name and (path := self._found(each.module, self.path)):
            yield from self._followed(path, each.name, STEPS)

    def _followed(self, path: Path, name: str, steps: int) -> Iterator[tuple[Path, str, str]]:
        """The definition of a name that a file has, or has from elsewhere."""
        here = self._outline(path)
        if name in here.definitions:
            yield path, name, here.definitions[name]
            return
        for each in here.imports:
            if each.name and each.bound in (name, "*") and steps and (other := self._found(each.module, path)):
                found = list(self._followed(other, name if each.name == "*" else each.name, steps - 1))
                yield from found
                if found:
                    return

    def _outline(self, path: Path) -> Outline:
        if path not in self._outlines:
            text = self.read(path)
            self._outlines[path] = Outline() if text is None else _cached(text)
        return self._outlines[path]


@lru_cache(maxsize=256)
def _cached(text: str) -> Outline:
    return outline(text)


def _attributes(bound: str, text: str) -> list[str]:
    """What of a module a text uses, in its order."""
    return list(dict.fromkeys(re.findall(rf"(?<![\w.]){re.escape(bound)}\.([^\W\d]\w*)", text)))

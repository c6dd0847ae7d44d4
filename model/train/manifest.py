"""Which Python source is trained on: installed packages with a permissive licence, and what was taken from each."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

HELD_OUT = frozenset(
    ("celery", "dask", "kornia", "networkx", "scrapy", "seaborn", "statsmodels", "timm", "xarray"),
)
"""Distributions that are never trained on, so that there is something to measure with."""

ACCEPTED = frozenset(
    (
        *("0BSD", "Apache-2.0", "BlueOak-1.0.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python"),
        *("HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib", "ZPL-2.1"),
    )
)
"""SPDX identifiers of licences that ask for no more than attribution."""

CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Zope Public License": "ZPL-2.1",
    "zlib/libpng License": "Zlib",
}
"""The end of a `License :: OSI Approved` classifier -> SPDX. Others (GPL, MPL, …) are not accepted."""

ALIASES = {
    "3-clause bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache": "Apache-2.0",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "mit license": "MIT",
    "new bsd": "BSD-3-Clause",
    "psf": "PSF-2.0",
    "the mit license": "MIT",
} | {name.lower(): name for name in ACCEPTED}
"""What packages without an expression or a classifier write into `License`, in lower case -> SPDX."""

_WORD = re.compile(r"[()]|[^\s()]+")


def licence(metadata: Mapping[str, Iterable[str]]) -> str:
    """The licence that a distribution's metadata states, as an SPDX expression; "" if it is not clear.

    metadata: header -> its values. An expression counts most, then classifiers (all of them), then a short `License`.
    """
    for expression in metadata.get("License-Expression", ()):
        return expression.strip()
    named = [line.rpartition(" :: ")[2] for line in metadata.get("Classifier", ()) if line.startswith("License ::")]
    named = [name for name in named if name != "OSI Approved"]
    if named:
        return " AND ".join(sorted({CLASSIFIERS.get(name, "LicenseRef-" + name.replace(" ", "-")) for name in named}))
    for text in metadata.get("License", ()):
        text = text.strip()
        return ALIASES.get(text.lower(), "")
    return ""


def accepted(expression: str) -> bool:
    """Is the SPDX expression satisfied by accepted licences alone: each part of an AND, one part of an OR?"""
    words = list(_WORD.findall(expression))
    value, rest = _either(words)
    return value and not rest


def _either(words: list[str]) -> tuple[bool, list[str]]:
    value, words = _all(words)
    while words and words[0].upper() == "OR":
        other, words = _all(words[1:])
        value = value or other
    return value, words


def _all(words: list[str]) -> tuple[bool, list[str]]:
    value, words = _one(words)
    while words and words[0].upper() == "AND":
        other, words = _one(words[1:])
        value = value and other
    return value, words


def _one(words: list[str]) -> tuple[bool, list[str]]:
    if not words:
        return False, []
    if words[0] == "(":
        value, words = _either(words[1:])
        return value and words[:1] == [")"], words[1:]
    value, words = words[0] in ACCEPTED, words[1:]
    # An exception only ever permits more.
    return value, words[2:] if words and words[0].upper() == "WITH" else words


@dataclass(frozen=True)
class Package:
    """An installed distribution and its Python files."""

    name: str
    version: str
    licence: str
    files: tuple[Path, ...]

    @property
    def usable(self) -> bool:
        return accepted(self.licence)

    @property
    def held_out(self) -> bool:
        return self.name.lower() in HELD_OUT


def installed(folders: list[str] | None = None) -> list[Package]:
    """The distributions in `folders` by name; without folders, what this interpreter sees, its own library included."""
    found = {}
    there = importlib.metadata.distributions() if folders is None else importlib.metadata.distributions(path=folders)
    for distribution in there:
        headers = distribution.metadata
        name = headers["Name"]
        if not name or name in found:
            continue
        values = {key: headers.get_all(key) or [] for key in ("License-Expression", "Classifier", "License")}
        files = [Path(str(file.locate())) for file in distribution.files or () if file.suffix == ".py"]
        found[name] = Package(name, distribution.version, licence(values), tuple(sorted(files)))
    if folders is None:
        found["python"] = _standard_library()
    return [found[name] for name in sorted(found)]


def _standard_library() -> Package:
    root = Path(sysconfig.get_path("stdlib"))
    files = [file for file in root.rglob("*.py") if not {"site-packages", "dist-packages"} & set(file.parts)]
    return Package("python", platform.python_version(), "PSF-2.0", tuple(sorted(files)))


@dataclass(frozen=True)
class Entry:
    """What was taken from one package."""

    package: str
    version: str
    licence: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Everything that decides what a model was trained on. `sha256` is over the digests of the selected files."""

    seed: int
    packages: tuple[Entry, ...]
    refused: tuple[str, ...]
    """Packages left out for their licence, as "name version: licence"."""
    held_out: tuple[str, ...]
    dropped: dict[str, int]
    """Why files were left out -> how many."""
    files: int
    bytes: int
    tokens: int
    sha256: str

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

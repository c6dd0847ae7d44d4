"""Who may import whom, and what this project is called."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("assistant", "model", "validators", "kernels")
MAY_IMPORT = {
    "kernels": {"torch", "triton", "llvmlite"},
    "validators": set(),
    "model": {"kernels", "torch", "numpy", "gguf", "safetensors", "tokenizers", "msgspec"},
}
"""Package -> what it may import beside itself and the standard library. `assistant` may import what is installed."""


def imports(path: Path) -> Iterator[str]:
    """The top-level names that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]


def imported_by(package: str) -> dict[str, set[str]]:
    """Name -> files of `package` that import it, without the package itself and the standard library."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        for name in imports(path):
            if name != package and name not in sys.stdlib_module_names:
                found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_dependencies_point_one_way(package: str) -> None:
    found = imported_by(package)
    assert found or package == "validators"
    assert not {name: files for name, files in found.items() if name not in MAY_IMPORT[package]}


def requirements() -> dict[str, str]:
    """Distribution -> its version range, of what is needed at run time."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = (re.fullmatch(r"([\w-]+)(.*)", requirement) for requirement in project["dependencies"])
    return {part[1].lower(): part[2] for part in parts if part}


def test_what_is_imported_is_required() -> None:
    modules = {"prompt_toolkit": "prompt-toolkit", "tree_sitter": "tree-sitter"}
    allowed = {*requirements(), "triton", "tree_sitter_python"}
    for package in OURS:
        for name, files in imported_by(package).items():
            assert name in OURS or modules.get(name, name) in allowed, (
                f"{name} is imported by {files}, and not required"
            )


@pytest.mark.parametrize("name", ["transformers", "pygls", "lsprotocol"])
def test_references_are_for_tests_alone(name: str) -> None:
    assert name not in requirements()
    assert not [package for package in OURS if name in imported_by(package)]


@pytest.mark.parametrize("package", OURS)
def test_our_names_are_ours(package: str) -> None:
    """`validators` and `kernels` are other people's distributions, too."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / package / "__init__.py"


def test_the_version_does_not_pass_for_another_kernels() -> None:
    """transformers takes whichever distribution owns `kernels` for Hugging Face's where 0.18.2 <= version < 0.19."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    assert not (0, 18, 2) <= numbers < (0, 19)

"""What a Python file defines, as short text: signatures, the first line of docstrings, no bodies."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

LONGEST = 100
"""Characters of a constant, or of a docstring's line, that are worth their tokens."""
MEMBERS = 12
"""Methods and fields of a class that are listed."""
LARGEST = 200_000
"""Characters of a file that is looked into."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Outline:
    """A file's definitions, by name and in its order, and where names come from that it has from elsewhere."""

    definitions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    imports: tuple[Import, ...] = ()


@dataclass(frozen=True)
class Import:
    """`from module import name as bound`, or with an empty name `import module as bound`."""

    module: str
    """Dots in front count up from the file's own package."""
    name: str
    bound: str


def outline(text: str) -> Outline:
    """Of a file's text; nothing where it does not parse."""
    if len(text) > LARGEST:
        return Outline()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Outline()
    definitions = {name: said for node in body for name, said in _definitions(node)}
    return Outline(MappingProxyType(definitions), tuple(each for node in body for each in _imports(node)))


def imports(text: str) -> tuple[Import, ...]:
    """The imports at the top level of a text, which need not parse as a whole: each statement is read by itself."""
    found: list[Import] = []
    lines = iter(text.splitlines())
    for line in lines:
        if not line.startswith(("import ", "from ")):
            continue
        while ("(" in line and ")" not in line) or line.endswith("\\"):
            if (more := next(lines, None)) is None:
                break
            line = line.removesuffix("\\") + "\n" * ("(" in line) + more
        try:
            found += (each for node in ast.parse(line).body for each in _imports(node))
        except (SyntaxError, ValueError):
            continue
    return tuple(found)


def _imports(node: ast.stmt) -> Iterator[Import]:
    if isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        yield from (Import(module, each.name, each.asname or each.name) for each in node.names)
    elif isinstance(node, ast.Import):
        yield from (Import(each.name, "", each.asname or each.name) for each in node.names)


def _definitions(node: ast.stmt) -> Iterator[tuple[str, str]]:
    if isinstance(node, Function):
        yield node.name, _function(node, "")
    elif isinstance(node, ast.ClassDef):
        yield node.name, _class(node)
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        said = ast.unparse(node)
        if len(said) <= LONGEST and "\n" not in said:
            yield from ((target.id, said) for target in targets if isinstance(target, ast.Name))


def _function(node: Function, indent: str) -> str:
    """One line, and the docstring's first line below it at the top level."""
    head = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    decorators = "".join(
        f"{indent}@{ast.unparse(each)}\n" for each in node.decorator_list if isinstance(each, ast.Name)
    )
    signature = f"{decorators}{indent}{head} {node.name}({ast.unparse(node.args)}){returns}:"
    said = "" if indent else _docstring(node, "    ")
    return f"{signature}\n{said}    ..." if said else f"{signature} ..."


def _class(node: ast.ClassDef) -> str:
    bases = ", ".join(map(ast.unparse, [*node.bases, *node.keywords]))
    members = []
    for member in node.body:
        if isinstance(member, Function) and (member.name == "__init__" or not member.name.startswith("_")):
            members.append(_function(member, "    "))
        elif isinstance(member, ast.AnnAssign) and len(said := ast.unparse(member)) <= LONGEST:
            members.append("    " + said)
    head = f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    return "\n".join([head, (_docstring(node, "    ") + "\n".join(members[:MEMBERS])).rstrip("\n") or "    ..."])


def _docstring(node: Function | ast.ClassDef, indent: str) -> str:
    line = (ast.get_docstring(node) or "").partition("\n")[0].strip()
    return f'{indent}"""{line}"""\n' if line and len(line) <= LONGEST and '"' not in line and "\\" not in line else ""

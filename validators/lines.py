"""The scanner's values: where a logical line stands (``Line``) and the brackets around it (``Frame``). All interned."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from validators.literals import TRIPLE, StringKind
from validators.machine import Node
from validators.marks import Mark

if TYPE_CHECKING:
    from validators.blocks import Block

__all__ = ["CODE", "COMMENT", "CONVERSION", "LITERAL", "SKIP", "START", "STRING", "Frame", "Line", "Reading"]

START = 0  # inside the indentation of a line
CODE = 1  # between tokens, or in a name, number or operator (``part``)
STRING = 2  # in a string; ``detail`` is its kind
LITERAL = 3  # in the literal text of an f-string or of a format specification
COMMENT = 4
CONVERSION = 5  # after the '!' of a replacement field
SKIP = 6  # in a line that is already known to be broken


_MOST_NAMINGS = 2_000  # variants of one bracket kept


class Frame:
    """An open bracket: '(', '[', '{', an f-string ('f'), its replacement field ('r') or that one's format: 's',
    and 't' once there has been a field in it; '?' stands for brackets of which nothing is known.

    ``level``: frames around it; ``depth``: open brackets as CPython counts them; ``strings``: f-strings that are open;
    ``fields``: replacement fields open in the innermost f-string; ``kind``: that f-string; ``closed``: characters that
    enclosing f-strings keep out of expressions (before 3.12); ``keywords`` and ``word``: see ``naming`` (3.8 alone).
    """

    __slots__ = (
        "children",
        "closed",
        "depth",
        "fields",
        "keywords",
        "kind",
        "level",
        "opener",
        "parent",
        "strings",
        "word",
    )

    def __init__(
        self,
        opener: str,
        parent: Frame | None,
        kind: StringKind | None,
        depth: int,
        strings: int,
        fields: int,
        closed: str,
    ) -> None:
        self.opener = opener
        self.parent = parent
        self.level: int = parent.level + 1 if parent else 0
        self.kind = kind
        self.depth = depth
        self.strings = strings
        self.fields = fields
        self.closed = closed
        self.keywords: frozenset[str] = frozenset()
        self.word = ""
        self.children: dict[tuple[object, ...], Frame] = {}

    def push(self, opener: str, kind: StringKind | None, nested: bool) -> Frame:
        """The frame inside this one. ``nested``: f-strings are part of the token stream (3.12 and later)."""
        key = (opener, kind)
        found = self.children.get(key)
        if found is not None:
            return found
        depth, strings, fields, closed = self.depth, self.strings, self.fields, self.closed
        inner = self.kind
        if opener == "f":
            strings, fields, inner = strings + 1, 0, kind
        elif opener == "r":
            fields += 1
            depth = depth + 1 if nested else 1
            if not nested and inner is not None:
                closed += "\\" + (TRIPLE[inner.quote] if inner.triple else inner.quote + "\r\n")
        elif opener not in "st":
            depth += 1
        frame = Frame(opener, self, inner, depth, strings, fields, closed)
        self.children[key] = frame
        return frame

    def naming(self, keywords: frozenset[str], word: str) -> Frame:
        """This frame with these names given as keyword arguments, and ``word`` perhaps to become one."""
        assert self.parent is not None
        key = (self.opener, keywords, word)
        found = self.parent.children.get(key)
        if found is None:
            found = Frame(self.opener, self.parent, self.kind, self.depth, self.strings, self.fields, self.closed)
            found.keywords, found.word = keywords, word
            if len(self.parent.children) > _MOST_NAMINGS:
                self.parent.children.clear()
            self.parent.children[key] = found
        return found

    def has_keywords(self) -> bool:
        """Whether a name is given as a keyword argument, or perhaps about to be, in this bracket or one around it."""
        each: Frame | None = self
        while each is not None:
            if each.keywords or each.word:
                return True
            each = each.parent
        return False

    def behind_field(self, nested: bool) -> Frame:
        """This frame once a replacement field in it has ended."""
        return self.parent.push("t", None, nested) if self.opener == "s" and self.parent else self


class Line:
    """A place in a logical line. ``node``: the parser after all finished tokens; ``part``: the unfinished token.

    ``frame`` is the innermost open bracket (its ``parent`` None stands for none open). ``detail`` depends on ``kind``.
    """

    __slots__ = ("detail", "frame", "kind", "memo", "node", "part")

    def __init__(self, kind: int, node: Node | None, frame: Frame, part: str, detail: object) -> None:
        self.kind = kind
        self.node = node
        self.frame = frame
        self.part = part
        self.detail = detail
        self.memo: dict[str, Reading] = {}


class Reading(NamedTuple):
    """What was read: characters accepted, the place after them, why it stopped, what was separated on the way.

    ``block`` is None where the text did not depend on it.
    """

    accepted: int
    line: Line
    reason: str | None
    marks: tuple[Mark, ...]
    block: Block | None

"""The program that a REPL session writes, and how it came about. Values: a change gives a new one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

Author = Literal["user", "model"]


class Piece(NamedTuple):
    """Text from one hand. Line ends are "\\n"."""

    author: Author
    text: str


@dataclass(frozen=True)
class Program:
    """Pieces in order; joined, they are the program."""

    pieces: tuple[Piece, ...] = ()

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    def plus(self, author: Author, text: str) -> Program:
        """With `text` appended; the same program if there is none."""
        return Program((*self.pieces, Piece(author, text))) if text else self

    def on_new_line(self) -> Program:
        """Ended by a line end, unless it is empty or has one."""
        text = self.text
        return self if not text or text.endswith("\n") else self.plus("user", "\n")

    def lines(self) -> Iterator[tuple[Author, str]]:
        """Each line without its end, and whose first character it holds."""
        author: Author | None = None
        line = ""
        for piece in self.pieces:
            for part in piece.text.splitlines(keepends=True) if piece.text else []:
                author = author or piece.author
                line += part
                if line.endswith("\n"):
                    yield author, line[:-1]
                    author, line = None, ""
        if author:
            yield author, line


@dataclass(frozen=True)
class Moment:
    """The program after one change."""

    program: Program
    asked: str = ""
    """What the user typed to bring it about; offered again when the change is taken back."""
    base: Program | None = None
    """What the model continued; None where it wrote nothing."""


@dataclass(frozen=True)
class Timeline:
    """All moments, and which of them is now."""

    moments: tuple[Moment, ...] = (Moment(Program()),)
    at: int = 0

    @property
    def now(self) -> Moment:
        return self.moments[self.at]

    def record(self, moment: Moment) -> Timeline:
        """`moment` becomes now; what was taken back before is forgotten."""
        return Timeline((*self.moments[: self.at + 1], moment), self.at + 1)

    def undo(self) -> Timeline:
        """One change back; the same where there is none."""
        return replace(self, at=max(self.at - 1, 0))

    def redo(self) -> Timeline:
        """One change on; the same where there is none."""
        return replace(self, at=min(self.at + 1, len(self.moments) - 1))

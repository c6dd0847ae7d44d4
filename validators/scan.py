"""The working place of the scanner while it reads one text."""

from __future__ import annotations

from validators.blocks import Block
from validators.lines import Line
from validators.machine import Node
from validators.marks import Mark, Separator

__all__ = ["Scan"]

_DEEP = 1 << 30  # deeper than any separator


class Scan:
    """The working place of one ``Scanner.run``: a Line taken apart, the text and the position in it.

    ``accepted`` characters are ``pos + shift``: ``text`` is rebuilt when an unfinished token is put in front of it.
    """

    __slots__ = (
        "began", "block", "detail", "ends", "frame", "kind", "lead", "local", "low", "marks", "missing",
        "node", "part", "pos", "reason", "refused", "shift", "text",
    )  # fmt: skip

    def __init__(self, line: Line, block: Block, text: str) -> None:
        self.kind = line.kind
        self.node: Node | None = line.node
        self.frame = line.frame
        self.part = line.part
        self.detail = line.detail
        self.block = block
        self.text = text
        self.pos = 0
        self.shift = 0
        self.refused = False
        self.reason = ""
        self.local = True  # nothing has depended on the block so far
        self.began = 0  # where the logical line begins that the position is in
        self.marks: list[Mark] = []
        self.low = _DEEP  # level of the last separator in ``marks``
        self.lead = len(text) - len(text.lstrip())  # blank characters that the text begins with
        self.missing = ""  # in ``Scanner.wild``: brackets that were closed and must have been opened before
        self.ends: list[
            tuple[int, str]
        ] = []  # in ``Scanner.wild``: line ends that may be the logical line's, its outcome

    def separate(self, sign: str, level: int, position: int) -> None:
        """Notes a separator where it is less deep than all before."""
        semicolon = sign == ";" and level == 0
        if level < self.low or semicolon:
            self.low = min(level, self.low)
            begun = self.lead < position + self.shift
            self.marks.append(Separator(level, sign in ")]}", begun, semicolon))

    def refuse(self, position: int, reason: str) -> None:
        self.pos = position
        self.refused = True
        self.reason = reason

    def join(self) -> None:
        """Puts the unfinished token in front of the text."""
        part = self.part
        if part:
            self.text = part + self.text[self.pos :]
            self.shift += self.pos - len(part)
            self.pos = 0
            self.part = ""

"""Lines that open the blocks in which a right-hand text goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from validators.blocks import Block, tail
from validators.closing import indentation
from validators.scanner import Scanner

__all__ = ["Skeletons"]

_MOST_COLUMNS = 6
_READ = 20_000  # characters of the right-hand text that are looked at for its indentations
_INDENTED = re.compile(
    r"(?:[ \t\f]*(?:#[^\r\n]*)?(?:\r\n?|\n))*([ \t]*)(?:(else|elif|except|finally|case)\b(?!\s*[=.,]))?"
)
_PARTNER = re.compile(r"[ \t]*(else|elif|except|finally|case)\b")
_TRIED = "try:pass\n{}except x:"


class _Step(NamedTuple):
    """An indentation that the text comes back to."""

    indent: str
    words: tuple[str, ...]
    """The statements with which it does so, as far as they go on with another one: ``else``, ``case``, ..."""

    @property
    def header(self) -> str:
        """A line that may stand there and open a block, with those before it that it needs."""
        first = self.words[0] if self.words else ""
        if first == "else" and "finally" in self.words:
            return self.indent + _TRIED.format(self.indent) + "\n"
        header = {"except": "try:", "finally": "try:", "case": "case 0:"}.get(first, "if x:")
        return f"{self.indent}{header}\n"


class Skeletons:
    """Those of one right-hand text. What has been found out about its indentations is kept."""

    def __init__(self, scanner: Scanner, text: str) -> None:
        self._scanner = scanner
        self._text = text[:_READ]
        self._lead = len(text) - len(text.lstrip(" \t"))
        self._stepped: dict[int, tuple[_Step, ...]] = {}

    def partner(self, beginning: str) -> str:
        """The word of the line that begins so and goes on with the text, if it goes on with a statement, or ''."""
        match = _PARTNER.match(beginning + self._text)
        return match[1] if match else ""

    def of(self, block: Block, at: int, word: str) -> Iterator[str]:
        """Lines and blanks behind which the text's first line may stand.

        ``block``: what is open there; ``at``: where the text's second line begins; ``word``: the first line's if that
        goes on with a statement.
        """
        yield from _columns(block)
        for steps in dict.fromkeys((self._steps(0), self._steps(at))):
            for used in range(len(steps) + 1):  # of these the left-hand text has opened the outer ones
                outermost = ["", "if x:\n"] + ["match x:\n"] * (steps[0].words[:1] == ("case",) if steps else False)
                for outer in outermost:
                    for depth in range(used, len(steps) + 1):
                        lines = outer + _opened(steps, used, depth)
                        last = steps[-1].indent if steps else ""
                        insides = [steps[depth].indent if depth < len(steps) else f"{last}    "]
                        if 0 < depth < len(steps):
                            insides.append(f"{steps[depth - 1].indent} ")
                        for inside in insides:
                            yield from self._lines(lines, inside, word)

    def _lines(self, lines: str, inside: str, word: str) -> Iterator[str]:
        """Those with the first line at this indentation, of which the text may have some blanks."""
        own = inside[self._lead :] if self._lead else inside
        yield lines
        yield lines + inside
        if word == "case":
            yield f"{lines}{inside}match x:\n{own} "
        elif word:
            yield f"{lines}{inside}{'if x:' if word in ('else', 'elif') else 'try:'}pass\n{own}"
        if word == "else":
            yield f"{lines}{inside}{_TRIED.format(inside)}pass\n{own}"
        if self._lead:
            yield lines + own

    def _steps(self, at: int) -> tuple[_Step, ...]:
        """Ever larger indentations that the lines from there on come back to."""
        known = self._stepped.get(at)
        if known is None:
            found: list[_Step] = []
            block, start = tail(), at
            while len(found) < _MOST_COLUMNS:
                match = _INDENTED.match(self._text, start)
                assert match is not None
                indent, word = match[1], match[2]
                if match.end() == len(self._text):
                    break
                if not found or len(indent) < len(found[-1].indent):
                    found.append(_Step(indent, (word,) if word else ()))
                elif indent == found[-1].indent and word and found[-1].words:
                    found[-1] = found[-1]._replace(words=(*found[-1].words, word))
                scan = self._scanner.scan(self._scanner.start_line, block, self._text[start:], once=True)
                if not scan.began or (not indent and not word):
                    break
                block, start = scan.block, start + scan.began
            known = self._stepped[at] = tuple(reversed(found))
        return known


def _opened(steps: tuple[_Step, ...], used: int, depth: int) -> str:
    """Lines that open blocks at the indentations from ``used`` up to ``depth``."""
    text = ""
    for step, inner in zip(steps[used:depth], (*steps[used + 1 :], _Step("", ())), strict=False):
        matched = inner.words[:1] == ("case",)
        if not matched or step.words:
            text += step.header
        if matched:
            text += f"{step.indent}{' ' if step.words else ''}match x:\n"
    return text


def _columns(block: Block) -> list[str]:
    """The indentations of the blocks that are open, innermost first."""
    found: list[str] = []
    each: Block | None = block
    while each is not None:
        text = indentation(each.column, each.tabbed)
        if text is not None:
            found.append(text)
        each = each.parent
    return found

"""Endings for the reference validator: made from tables, judged by the parser."""

from __future__ import annotations

import itertools
import keyword
import re
from collections.abc import Iterator

from validators.reference_judge import judge, parses, refusal, syntax_error
from validators.reference_lines import scan
from validators.reference_outline import Outline, fold

_TOKENS = ("", "n", "\\", "}", "x}", "r}", *("0" * count for count in range(1, 9)), "{DIGIT ONE}")
"""What may be missing before the quote of an open string."""
_FILLERS = (
    *("", "x", " x", "0", " import x", "x import x", ":x", ": x", " in x", "x in x", "=x", " as x", "(x)", "r"),
    *(
        " else x",
        " if x else x",
        " x else x",
        " for x in x",
        "x for x in x",
        ":x for x in x",
        " x in x",
        "x:x",
        "x,",
        ".",
    ),
)
"""What may be missing before a bracket closes, or before a line ends. Likely ones first."""
_HEADERS = ("", ":pass", "():pass", "x():pass", "x:pass", " x:pass", " x():pass", " x in x:pass", " in x:pass")
_BLOCKS = ("pass", "finally:pass", "def x():pass", " case _:pass", " pass", "case _:pass")
"""What may be missing after a line, each behind an indentation."""
_OPENED = ("", '"""', "'''", 'b"""', "b'''")
_OPENERS = {")": "(", "]": "[", "}": "{"}
_DEEPEST = 20
_STATEMENT = re.compile(r"^(?![ \t\f\r\n#)\]}]|(?:elif|else|except|finally|case)\b)", re.MULTILINE)
_TRIES = 60


def closing(kept: str, outline: Outline, line: str, right: str) -> str | None:
    """A text that makes `kept` + it + `right` parse; None if none is known. `kept` has this outline and open line."""
    short = outline.text + line
    for ending in _endings(outline, line):
        if parses(short + ending + right) and parses(kept + ending + right):
            return ending
    return None


def readable(outline: Outline, line: str, right: str) -> int:
    """Characters of a right-hand text up to the first statement of its top level that cannot be parsed.

    What comes before the first such statement depends on the gap and is not judged. The gap may open a string or
    brackets that go on behind it; that is tried before a statement is given up.
    """
    short = outline.text + line
    if any(parses(short + gap + right) for gap in (*itertools.islice(_endings(outline, line), _TRIES), "\n")):
        return len(right)
    bounds = [found.start() for found in _STATEMENT.finditer(right) if found.start()]
    if not bounds:
        return len(right)
    rest = right[bounds[0] :]
    furthest = 0
    for opened in _OPENED:
        problem = syntax_error(opened + rest)
        for _ in range(_DEEPEST):
            if problem is None or not problem.msg.startswith("unmatched"):
                break
            opened = _OPENERS[problem.msg[len("unmatched '")]] + opened
            problem = syntax_error(opened + rest)
        if problem is None:
            return len(right)
        lines = rest.splitlines(keepends=True)[: max(problem.lineno or 1, 1)]
        furthest = max(furthest, bounds[0] + sum(map(len, lines)))
    judged = right[bounds[0] : next((bound for bound in bounds if bound >= furthest), len(right))]
    if any(judged.count(quote) % 2 for quote in ('"""', "'''")):  # most likely the end of a string, and no statement
        return len(right)
    return max((bound for bound in bounds if bound < furthest), default=bounds[0])


def _endings(outline: Outline, line: str) -> Iterator[str]:
    """Candidates: the last word made whole, brackets closed one by one, then the line, then the blocks."""
    found = scan(line)
    word = line[found.start :] if found.kind in ("word", "number") else ""
    letters = re.search(r"[a-z]*\Z", word)
    rests = [kw[len(letters[0]) :] for kw in keyword.kwlist if letters and letters[0] and kw.startswith(letters[0])]
    for rest in ("", *rests, "_"):
        if not rest or (word and refusal(outline, line + rest + " ") is None):
            yield from (rest + ending for ending in _bracket_endings(outline, line + rest))


def _bracket_endings(outline: Outline, line: str) -> Iterator[str]:
    """Close what is open from the inside out, each with the first filler that keeps the text viable."""
    text = line
    while stack := scan(text).stack:
        if scan(text).kind in ("comment", "backslash"):
            text += "\n"
        top = stack[-1]
        fillers = _TOKENS if top.kind == "text" else _FILLERS
        yield from (text[len(line) :] + filler for filler in fillers)
        for filler in fillers:
            closed = text + filler + top.closer
            if len(scan(closed).stack) < len(stack) and refusal(outline, closed) is None:
                text = closed
                break
        else:
            return
    if scan(text).kind == "backslash":
        text += "\n"
    for filler, header in itertools.product(_FILLERS, _HEADERS):
        ended = text + filler + header
        if refusal(outline, ended + "\n") is None:
            yield ended[len(line) :]
            yield (ended + "\n" + _block_endings(outline, ended))[len(line) :]


def _block_endings(outline: Outline, line: str) -> str:
    """The lines that the open statements still need, from the innermost block to the outermost."""
    if scan(line + "\n").first >= 0:
        outline = outline.after(line + "\n")
    text, levels = "", list(outline.levels)
    while levels:
        here = outline._replace(levels=tuple(levels))
        indentation, follows = levels[-1].indentation, levels[-1].indentation + "pass\n"
        more = ""
        for _ in range(2):
            if judge(here.text + more + follows) is None:
                break
            blocks = (indentation + block + "\n" for block in _BLOCKS)
            more += next((block for block in blocks if judge(here.text + more + block) is None), "")
        text += more
        levels = fold([*levels[:-1], levels[-1]._replace(statement=levels[-1].statement + more)])
    return text

"""A short text that turns what is there into a program."""

from __future__ import annotations

from validators.blocks import REQUIRED, Block
from validators.costs import Costs
from validators.lines import CODE, COMMENT, CONVERSION, LITERAL, SKIP, START, STRING, Line
from validators.literals import StringKind, finish_escape
from validators.scanner import Scanner

__all__ = ["Closer"]

_MOST_PIECES = 5_000
_UNCLOSED = 50  # weight of a line that leaves a body to be written
_UNUSUAL = 6  # weight of making another name of a keyword that cannot stand
# Digits for a number that is not one yet, and what may be left of a keyword glued to it.
_NUMBER_ENDINGS = ("", "0", "j", "0j", "f", "n", "s", "r", "or", "d", "nd", "t", "ot", "e", "se", "lse")


class Closer:
    """Writes endings piece by piece, each the first of a lightest ending, and reads every piece with the scanner."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self.costs = Costs(scanner.machine)

    def ending(self, line: Line, block: Block) -> str | None:
        """What has to follow for the file to end; None where no ending is found."""
        text = ""
        for _ in range(_MOST_PIECES):
            if self.complete(line, block):
                return text.rstrip(" ")
            piece = self.piece(line, block)
            if piece is None:
                return None
            accepted, line, block, _ = self._scanner.run(line, block, piece)
            if accepted != len(piece):
                return None
            text += piece
        return None

    def complete(self, line: Line, block: Block) -> bool:
        """Whether the file may end here."""
        if line.part[:1] == "\\" and not (line.part == "\\\r\n" and self._scanner.adds_line):
            return False
        if line.kind == START:
            return block.closed() and not (isinstance(line.detail, tuple) and line.detail[3])
        if line.kind == SKIP or (line.kind == COMMENT and line.node is None):
            return block.closed()
        if line.kind not in (CODE, COMMENT) and not (line.kind == STRING and line.part == "2"):
            return False
        _, _, after, reason = self._scanner.run(line, block, "\n")
        return reason is None and after.closed() and line.frame is self._scanner.top

    def piece(self, line: Line, block: Block) -> str | None:
        """The next characters of an ending; at least one, or None."""
        if line.kind == START:
            return self._at_start(line, block)
        if line.kind == COMMENT:
            return "\n"
        if line.kind == CONVERSION:
            return "}" if line.part else "r"
        if line.kind == STRING:
            kind = line.detail
            assert isinstance(kind, StringKind)
            if line.part == "1":
                return kind.quote
            if line.part == "4":
                return "x" + kind.quote
            if line.part in ("2", "3"):
                return self._word(line, block, [""])
            if line.part.startswith("\\"):
                return finish_escape(line.part, self._scanner.known)
            return kind.quote * ((3 if kind.triple else 1) - line.part.count(kind.quote))
        if line.kind == LITERAL:
            if line.part[:1] in ("{", "}"):
                return line.part
            kind = line.frame.kind
            assert kind is not None
            if line.part.startswith("\\"):
                return finish_escape(line.part, self._scanner.known)
            if line.frame.opener in "st":
                return "}"
            return kind.quote * ((3 if kind.triple else 1) - line.part.count(kind.quote))
        if line.kind != CODE:
            return "\n"
        if line.part in ("\\", "\\\r"):
            return "\n"
        if line.part and line.part not in ("\\\n", "\\\r\n"):
            return self._token(line, block)
        assert line.node is not None
        return self._next(line)

    def _next(self, line: Line) -> str:
        assert line.node is not None
        terminal, _ = self.costs.best(line.node)
        text = self.costs.text(terminal)
        if not text:  # the end of an f-string is written where its literal text is
            raise ValueError("an f-string can end in its literal text only")
        return text if text == "\n" else f"{text} " if text[-1].isalnum() else text

    def _token(self, line: Line, block: Block) -> str | None:
        """The rest of a token, with a blank behind it."""
        words, part = self._scanner.words, line.part
        if part[0].isalpha() or part[0] == "_":
            rests = ["", "x"]
            rests += [word[len(part) :] for word in words.words if word.startswith(part)]
            prefixes = [prefix[len(part) :] for prefix in words.prefixes if prefix.startswith(part)]
            rests += [prefix + quotes for quotes in ("''", '""') for prefix in prefixes]
        elif part[0].isdigit() or part[1:2].isdigit():
            rests = list(_NUMBER_ENDINGS)
        elif part == "!" and self._scanner.run(line, block, "r}")[0] == 2:
            return "r}"  # before 3.12 no blank may stand between a conversion and what ends the field
        else:
            rests = [sign[len(part) :] for sign in words.operators if sign.startswith(part)]
            if part in (".", ".."):
                rests += ["", "0"]
        return self._word(line, block, rests)

    def _word(self, line: Line, block: Block, rests: list[str]) -> str | None:
        """The best of ``rests`` for the open token, and what ends that token."""
        best: tuple[int, str, Line] | None = None
        for rest in rests:
            accepted, after, inside, _ = self._scanner.run(line, block, rest + " ")
            if accepted != len(rest) + 1:
                accepted, after, inside, _ = self._scanner.run(line, block, rest + "\n")
                if accepted != len(rest) + 1:
                    continue
            weight = self.costs.of(after.node) if after.node else 0 if inside.closed() else _UNCLOSED
            weight += len(rest) + (_UNUSUAL if rest == "x" else 0)
            if best is None or weight < best[0]:
                best = (weight, rest, after)
        if best is None:
            return None
        _, rest, after = best
        if after.kind != CODE or after.node is None:
            return rest + "\n"
        following = self._next(after)
        spaced = self._scanner.run(line, block, f"{rest} {following}")
        if self._scanner.run(line, block, rest + following)[1:3] == spaced[1:3]:
            return rest + following
        return f"{rest} {following}"

    def _at_start(self, line: Line, block: Block) -> str | None:
        detail = line.detail
        assert isinstance(detail, tuple)
        if line.part:
            return "\n"
        column, tabbed, held, _ = detail
        if held is not None or block.closed():
            return "\n"
        if block.body:
            entry = self._scanner.entries["match" if block.body == "match" else "statement"]
            deep = column > block.column and tabbed > block.tabbed
            blanks = "" if deep else self._deeper(block, column, tabbed)
        else:
            while block.context not in REQUIRED:
                assert block.parent is not None
                block = block.parent
            entry = self._scanner.entries[block.context]
            wanted = indentation(block.column, block.tabbed)
            if wanted is None:
                return None
            if (column, tabbed) == (block.column, block.tabbed):
                blanks = ""
            elif (column, tabbed) == (0, 0):
                blanks = wanted
            else:
                return "\n"
        terminal, _ = self.costs.best(entry)
        text = self.costs.text(terminal)
        return blanks + text + (" " if text[-1].isalnum() else "")

    def _deeper(self, block: Block, column: int, tabbed: int) -> str:
        """Blanks that take a line from these columns into a new block, by the step of the block around it."""
        outer = block.parent
        step = (block.column - outer.column, block.tabbed - outer.tabbed) if outer else (4, 4)
        if (column, tabbed) == (0, 0):
            wanted = indentation(block.column + step[0], block.tabbed + step[1])
            if wanted is not None:
                return wanted
        return " " * (max(block.column - column, block.tabbed - tabbed) + step[1])


def indentation(column: int, tabbed: int) -> str | None:
    """Blanks and tabs that CPython counts as these two columns (tabs to the next 8; tabs as one)."""
    for tabs in range(column // 8 + 1):
        spaces = column - 8 * tabs
        spare = tabbed - tabs - spaces  # blanks that a following tab swallows
        if 0 <= spare <= 7 * tabs:
            text = ""
            for _ in range(tabs):
                swallowed = min(7, spare)
                spare -= swallowed
                text += " " * swallowed + "\t"
            return text + " " * spaces
    return None

"""Texts that are nearly programs: f-strings in f-strings, odd layout, deep nesting, and walks along the grammar."""

from __future__ import annotations

from tests.validators.fuzz_loose import Loose
from validators import PythonValidator

_PREFIXES = (*("", "", ""), *"rbuUfFtft", *("rb", "Br", "fr", "Rf", "Tr", "ub", "ur", "bf", "tf", "ft"))
_QUOTES = ("'", '"', "'''", '"""')
_BODIES = (
    *("", "x", " ", "\\", "\\\\", "\\'", '\\"', "'", '"', "''", '""', "\n", "\r", "\r\n", "\\\n", "\\\r\n"),
    *("\\\r", "#", "\\x4", "\\x41", "\\u12", "\\u00e9", "\\U0010ffff", "\\U00110000", "\\N{DASH}", "\\N{BULLET}"),
    *("\\N", "\\N{", "é", "\\0", "\\777", "\\é", "\\d", "{", "}"),
    *("{{", "}}", "{x}", "{x", "x}", "{}", "{ }", "\\{", "\\}", "\\N{LF}"),
    *("\\N{BUBBLE TEA}", "\\N{MELTING FACE}", "\\N{CJK UNIFIED IDEOGRAPH-30000}", "\\N{FVS4}", "\\N{SHAKING FACE}"),
)  # fmt: skip
_FIELDS = (
    *("x", " x ", "x y", "", "!x", "lambda: x", "(lambda: x)", "lambda x=1: {x}", "x := 1", "(x:=1)"),
    *("*x", "*x, y", "x,", "yield", "yield x", "await x", "x if y else z", "{1: 2}", " {1: 2} ", "x[1:2]"),
    *("x != y", "x == y", "x <= y", "x = y", "'a'", '"a"', "'''a'''", '"""a"""', "f'{y}'", 'f"{y}"', "'\\n'", "x\n"),
    *("\nx", "x # c\n", "#", "\\", "x\\\n", "(x", "x)", "x for x in y", "**x"),
    *("x:=1", "x;y", "1e", "x.", "''''''", "not", "x!", "'{'", '"}"'),
    *("x if", "x\r\n", "\tx", "x==", "x>=", "x'y'", 'f(x,"y)', "x 'a' \"b\"", "''''a'", '"" "\\"'),
)  # fmt: skip
_FIELD_ENDS = (
    *("}", "}", "}", "=}", " = }", "!r}", ":>5}", "! r}", "!r }", "!x}", "!", "=!r}", "=!s:>5}", ":}", ":{w}}"),
    *(":{w}.{p}}", ":\n}", ":{x:{y}}}", ":{x:{y:{z}}}}", ":{{}}", ":}}", ":\\n}", ":\\x}", ":{x!r}}", "!r:{y=}}"),
    *(":'}", ':"}', ":\\{x}}", "", "=:}", "!=x}", ":=5}", "!r=}", "= !r}", "!r:x!r}", "::}", ":#}", "!r\n}", "!\nr}"),
    *("=\n}", ":\n{b}}", ":\n{b!r:{c}}}", ":{c}\n}", ":{c}{{d}}", ":{c}{{", ":{c}\\{}", ":a\n{lambda x: y}}", ":\r\n}"),
)  # fmt: skip
_SHAPES = ("{}", "x = {}\n", "f({}, {})", "{} {}", "{}{}", "[{},\n{}]\n", "{}.x\n", "match x:\n case {}: pass")
_INDENTS = (
    *("", "", " ", "  ", "    ", "\t", "\t ", " \t", "        ", "\f", " \f", " \f "),
    *("\\\n", "  \\\n", "  \\\n  ", "\\\n  ", "\t\\\n"),
)  # fmt: skip
_ENDS = (
    *("\n", "\n", "\n", "\n", "\r\n", "\r", "\n\n", "\n \n", "\n\f\n", "\n# c\n", "\n    # c\n"),
    *("\\\n\n", "\n\\\n\n", "\n  \\\n\n", ""),
)  # fmt: skip
_HEADS = (
    *("x", "pass", "x; y", "x = (1,", ")", "if x:", "if x: y", "else:", "elif x:", "try:", "except:", "finally:"),
    *("else: x", "def f():", "class c:", "@d", "async def f():", "for x in y:", "while x:", "with x:", "match x:"),
    *("case x:", "#c", "except* x:", "'''", "f'''{", "x \\", "\\", "", "x = '\\", "return", "from x import (a,"),
    *("case _: y", "f'{x:", "# coding: latin-1", "# -*- coding: utf-8 -*-", "\ufeffx", "é = 1"),
)  # fmt: skip
_REPEATED = "- not_ ~ await_ lambda: x_if_x_else_ x. x[ x( * **".replace("_", " ").split(" ")
_SPELT = {
    "NUMBER": ("0", "1", "1.5", "0x1 ", "01.", "00", "1e5 "),
    "IMAGINARY": ("1j", ".5j"),
    "NEWLINE": ("\n", "\n ", "\n    "),
    "AUGASSIGN": ("+=", "**="),
    "CONVERSION": ("r", "s"),
}
_STRINGS = {"STRING": "", "BYTES": "b", "FSTRING": "f", "TSTRING": "t"}


class Soup(Loose):
    """Draws texts; the same `rng` gives the same ones."""

    def strings(self) -> str:
        """A statement with strings in strings."""
        self._budget = self._rng.choice((3, 6, 12))
        self._tidy = self._rng.random() < 0.8
        shape = self._rng.choice(_SHAPES)
        return shape.format(*(self.string() for _ in range(shape.count("{}"))))

    def string(self) -> str:
        rng = self._rng
        prefix, quote = rng.choice(_PREFIXES), rng.choice(_QUOTES)
        formatted = {"f", "t"} & set(prefix.lower())
        body = ""
        for _ in range(rng.randint(0, 3)):
            plain = rng.choice(_BODIES if rng.random() < 0.4 else _BODIES[:3])
            body += self._field() if formatted and rng.random() < 0.5 else plain
        if not formatted and self._tidy:
            body = body.replace(quote[0], "")
        return prefix + quote + body + (quote if rng.random() < 0.95 else "")

    def _field(self) -> str:
        self._budget -= 1
        inside = self._draw("e", "") if self._budget > 0 and self._rng.random() < 0.5 else self._rng.choice(_FIELDS)
        likely = self._tidy and self._rng.random() < 0.6
        return "{" + inside + self._rng.choice(_FIELD_ENDS[:7] if likely else _FIELD_ENDS)

    def layout(self) -> str:
        """Short lines with odd indentation, line ends and continuations."""
        indents, ends = self._rng.sample(_INDENTS, 4), self._rng.sample(_ENDS, 3)
        lines = range(self._rng.randint(1, 7))
        return "".join(self._rng.choice(indents) + self._rng.choice(_HEADS) + self._rng.choice(ends) for _ in lines)

    def deep(self) -> str:
        """Nesting about CPython's limits: 100 levels of indentation, 200 brackets, 4,300 digits, fields in fields."""
        rng, kind = self._rng, self._rng.randrange(6)
        if kind == 0:
            depth, head = rng.randint(97, 102), rng.choice(("if x:", "class c:", "try:"))
            lines = "".join(f"{' ' * level}{head}\n" for level in range(depth))
            return lines + " " * depth + rng.choice(("x", "x\ny", "if x: y"))
        if kind == 1:
            depth = rng.randint(196, 203)
            opened = [rng.choice("([{") for _ in range(depth)] if rng.random() < 0.5 else ["("] * depth
            closers = "".join({"(": ")", "[": "]", "{": "}"}[sign] for sign in reversed(opened))
            return "".join(opened) + rng.choice(("x", "", "*x", "x:x", "f'{x}'", "f'{(x)}'")) + closers
        if kind == 2:
            used = [rng.choice(_QUOTES) for _ in range(rng.randint(1, 6))]
            return "".join(f"f{quote}{{" for quote in used) + "x" + "".join(f"}}{quote}" for quote in reversed(used))
        if kind == 3:
            depth = rng.randint(1, 5)
            return "f'" + "{x:" * depth + "}" * rng.randint(depth - 1, depth + 1) + "'"
        if kind == 4:
            return rng.choice("019") * rng.randint(4299, 4302) + rng.choice(("", ".", "j", "e", "else", "_0", " "))
        return rng.choice(_REPEATED) * rng.randint(1, 60) + "x"

    def walk(self, validator: PythonValidator) -> str:
        """What the validator lets through, token by token, drawn from what its parser can take next."""
        rng, machine = self._rng, validator.machine
        state, text = validator.start(""), ""
        for _ in range(rng.choice((5, 10, 20, 40))):
            node = state.line.node
            bits = machine.accepts(node) if node is not None else 0
            known = sorted(each for n, each in enumerate(machine.spelling) if bits >> n & 1 and each[0] != "$")
            any_piece = rng.choice((" ", "\\\n", "# c\n", self._draw("name", ""), "\n"))
            piece = self._spelt(rng.choice(known)) if known and rng.random() < 0.9 else any_piece
            verdict = validator.check(state, piece)
            text += piece[: verdict.accepted]
            state = verdict.state
        return text + (validator.closing(state) or "")

    def _spelt(self, spelling: str) -> str:
        """A token as its terminal has it, or nearly."""
        rng = self._rng
        if spelling in _STRINGS:
            quote = rng.choice(_QUOTES)
            return f"{_STRINGS[spelling]}{quote}" + rng.choice((quote, f"x{quote}", "{", ""))
        if spelling == "NAME":
            return self._draw("name", "") + rng.choice(("", " "))
        if spelling in _SPELT:
            return rng.choice(_SPELT[spelling])
        if spelling in ("'f{'", "'f}'", "'f:'", "'f!'"):
            return spelling[2]
        word = spelling.strip("'")
        return word + (" " if word[-1:].isalnum() or rng.random() < 0.1 else "") if word != "FSTRING_END" else '"'

"""Random programs of a Python version, written from a small grammar. Nearly all of them parse."""

from __future__ import annotations

import random
from collections.abc import Callable

Version = tuple[int, int]
_NAMES = (
    "a",
    "b",
    "xs",
    "_",
    "match",
    "case",
    "type",
    "self",
    "print",
    "é",
    "名前",
    "x1",
    "fi",
    "no",
    "f",
    "rb",
    "lambda_",
)
_NUMBERS = ("0", "1", "0x1F", "1_000", "1.", ".5", "1e-3", "2j", "0o17", "0b1", "00", "1.5e+3J", "9" * 25)
_STRINGS = (
    "''",
    '"a b"',
    "r'\\d'",
    "b'x'",
    "'''t\n t'''",
    '"\\n\\x41"',
    "u'é'",
    'rb"\\d"',
    "'\\N{BULLET}'",
    '"""q"q"""',
    "'#'",
)
_INDENTS = ("    ", "  ", "\t", " ", "   ", "        ", "\t ")
_BINARY = ("+", "-", "*", "/", "//", "%", "@", "**", "<<", ">>", "&", "^", "|")
_MODULES = (".", "..", "a.b", ".a", "...b", "....")
_COMPARE = ("<", ">", "==", "!=", "<=", ">=", "in", "not in", "is", "is not")


class Programs:
    """Draws programs; the same `rng` gives the same ones."""

    def __init__(self, rng: random.Random, version: Version) -> None:
        self._rng = rng
        self._version = version
        self._depth = 0

    def program(self) -> str:
        text = "".join(self._statement("") for _ in range(self._rng.randint(1, 4)))
        return text if self._rng.random() < 0.8 else text.rstrip("\n")

    def _pick(self, options: list[Callable[[], str]]) -> str:
        self._depth += 1
        chosen = options[self._rng.randrange(len(options) if self._depth < 6 else min(3, len(options)))]()
        self._depth -= 1
        return chosen

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _some(self, make: Callable[[], str], low: int = 0, high: int = 3, comma: bool = True) -> str:
        parts = [make() for _ in range(self._rng.randint(low, high))]
        return ("," + self._space()).join(parts) + ("," if parts and comma and self._chance(0.2) else "")

    def _space(self) -> str:
        return self._rng.choice(("", " ", " ", " ", "  ", "\t", " \\\n ")) if self._chance(0.3) else " "

    def _name(self) -> str:
        return self._rng.choice(_NAMES)

    # expressions

    def _expression(self) -> str:
        rng, e = self._rng, self._expression
        options: list[Callable[[], str]] = [
            self._name,
            lambda: rng.choice(_NUMBERS),
            lambda: rng.choice(_STRINGS),
            lambda: rng.choice(("None", "True", "...", "()", "[]", "{}")),
            lambda: f"{self._operand()} {rng.choice(_BINARY)}{self._space()}{self._operand()}",
            lambda: f"{self._operand()} {rng.choice(_COMPARE)} {self._operand()}",
            lambda: f"{self._operand()} {rng.choice(('and', 'or'))} {self._operand()}",
            lambda: rng.choice(("-", "~", "not ", "+", "await ")) + self._operand(),
            lambda: f"({self._some(self._element)})",
            lambda: f"[{self._some(self._element)}]",
            lambda: "{" + self._some(self._element, 1) + "}",
            lambda: (
                "{"
                + self._some(lambda: f"{e()}:{self._space()}{e()}" if self._chance(0.8) else f"**{self._operand()}")
                + "}"
            ),
            lambda: f"{self._primary()}({self._arguments()})",
            lambda: f"{self._primary()}[{self._subscript()}]",
            lambda: f"{self._primary()}.{self._name()}",
            lambda: f"lambda {self._parameters(False)}: {e()}",
            lambda: f"({e()} if {e()} else {e()})",
            lambda: self._comprehension(),
            lambda: self._formatted(),
            lambda: f"({self._name()} := {e()})",
            lambda: f"(yield {e()})" if self._chance(0.7) else "(yield)",
            lambda: f"{rng.choice(_STRINGS[:2])} {rng.choice(_STRINGS[:2])}",
        ]
        return self._pick(options)

    def _operand(self) -> str:
        text = self._expression()
        return text if text[0] in "([{" or text.isidentifier() else f"({text})"

    def _primary(self) -> str:
        return self._rng.choice((self._name(), f"({self._expression()})", f"{self._name()}.{self._name()}"))

    def _element(self) -> str:
        return f"*{self._operand()}" if self._chance(0.15) else self._expression()

    def _subscript(self) -> str:
        def part() -> str:
            return self._expression() if self._chance(0.6) else ""

        return self._rng.choice(
            (
                self._expression(),
                f"{part()}:{part()}",
                f"{part()}:{part()}:{part()}",
                f"{part()}:, {self._expression()}",
            )
        )

    def _comprehension(self) -> str:
        loop = f"for {self._target()} in {self._operand()}" + (f" if {self._operand()}" if self._chance(0.4) else "")
        if self._chance(0.2):
            loop = "async " + loop
        if self._chance(0.2):
            return "{" + f"{self._expression()}: {self._expression()} {loop}" + "}"
        return self._rng.choice(("({})", "[{}]", "{{{}}}")).format(f"{self._operand()} {loop}")

    def _formatted(self) -> str:
        """An f-string that is good on every version: no quote, backslash or `#` within its fields."""

        def field() -> str:
            spec = self._rng.choice(("", "", "!r", "=", ":>10", "!s:{w}", ":{a}.{b}", "=!r:^5", " "))
            inside = self._rng.choice(
                (self._name(), "a + b", "a[0]", "f(x, y)", "(a, b)", "{1: 2}[1]", "x.y", "a != b", "(lambda: 1)")
            )
            return "{" + (" " if inside[0] == "{" else "") + inside + spec + "}"

        quote = self._rng.choice(("'", '"', "'''", '"""'))
        body = "".join(
            self._rng.choice((field, lambda: "{{", lambda: "}}", lambda: "t x", lambda: "\\n"))() for _ in range(3)
        )
        prefix = self._rng.choice(("f", "F") if self._version < (3, 14) else ("f", "F", "t"))
        if self._version >= (3, 12) and self._chance(0.3):
            body += "{" + self._expression().replace("lambda", "").strip() + "}"
            quote = self._rng.choice(("'''", '"""')) if "\n" in body else quote
        return f"{prefix}{quote}{body}{quote}"

    def _arguments(self) -> str:
        return self._rng.choice(
            (
                self._some(self._element),
                f"{self._expression()} for {self._target()} in {self._operand()}",
                self._some(lambda: f"{self._name()}={self._expression()}"),
                f"{self._expression()}, *{self._operand()}, {self._name()}={self._expression()}, **{self._operand()}",
                f"{self._name()} := {self._expression()}",
            )
        )

    def _parameters(self, typed: bool) -> str:
        def one(default: bool) -> str:
            note = f": {self._operand()}" if typed and self._chance(0.3) else ""
            return f"p{self._rng.randrange(99)}{note}" + (f"={self._operand()}" if default else "")

        plain = [one(False) for _ in range(self._rng.randint(0, 2))]
        if plain and self._chance(0.2):
            plain.insert(self._rng.randint(1, len(plain)), "/")
        plain += [one(True) for _ in range(self._rng.randint(0, 1))]
        if self._chance(0.3):
            plain.append(self._rng.choice(("*", "*args")))
            plain += [one(self._chance(0.5)) for _ in range(self._rng.randint(1, 2))]
        if self._chance(0.2):
            plain.append("**kw")
        return ", ".join(plain)

    def _target(self) -> str:
        return self._pick(
            [
                self._name,
                lambda: f"{self._name()}, {self._name()}",
                lambda: f"{self._name()}.{self._name()}",
                lambda: f"{self._primary()}[{self._subscript()}]",
                lambda: f"({self._target()}, *{self._name()})",
                lambda: f"[{self._target()}]",
            ]
        )

    # statements

    def _statement(self, indent: str) -> str:
        if self._chance(0.1):
            return self._rng.choice(("\n", f"{indent}# note\n", "   \n", "\f\n", "  # odd\n"))
        if self._depth < 4 and self._chance(0.45):
            self._depth += 1
            text = self._compound(indent)
            self._depth -= 1
            return text
        end = self._rng.choice(("\n", "\n", "\n", " # c\n", ";\n", "; pass\n"))
        return f"{indent}{self._simple()}{end}"

    def _simple(self) -> str:
        e, rng = self._expression, self._rng
        options: list[Callable[[], str]] = [
            lambda: f"{self._target()} = {e()}",
            e,
            lambda: rng.choice(("pass", "break", "continue", "return", "raise")),
            lambda: f"{self._name()}: {self._operand()}" + (f" = {e()}" if self._chance(0.5) else ""),
            lambda: f"{self._name()} {rng.choice(_BINARY)}= {e()}",
            lambda: f"{self._target()} = {self._target()} = yield {e()}",
            lambda: f"return {self._some(self._operand, 1)}",
            lambda: f"raise {self._operand()} from {e()}",
            lambda: f"import {self._name()}.{self._name()} as {self._name()}, {self._name()}",
            lambda: f"from {rng.choice(_MODULES)} import {rng.choice(('x', 'x as y, z', '(x, y,)', '*'))}",
            lambda: f"del {self._target()}",
            lambda: f"assert {e()}, {e()}",
            lambda: f"{rng.choice(('global', 'nonlocal'))} {self._name()}, {self._name()}",
        ]
        if self._version >= (3, 12):
            options.append(lambda: f"type {self._name()}{self._type_parameters()} = {e()}")
        return self._pick(options)

    def _type_parameters(self) -> str:
        if self._version < (3, 12) or self._chance(0.5):
            return ""
        default = f" = {self._operand()}" if self._version >= (3, 13) and self._chance(0.5) else ""
        return "[" + self._rng.choice(("T", "T: int", "*Ts", "**P", "T: (a, b)", "A, B: int, *C")) + default + "]"

    def _block(self, indent: str) -> str:
        if self._chance(0.2):
            return f" {self._simple()}\n"
        deeper = indent + self._rng.choice(_INDENTS)
        body = "".join(self._statement(deeper) for _ in range(self._rng.randint(1, 3)))
        return f"\n{body}{deeper}{self._simple()}\n"

    def _compound(self, indent: str) -> str:
        e, b = self._expression, self._block
        options: list[Callable[[], str]] = [
            lambda: (
                f"{indent}if {e()}:{b(indent)}"
                + (f"{indent}elif {e()}:{b(indent)}" if self._chance(0.3) else "")
                + self._else(indent)
            ),
            lambda: f"{indent}while {e()}:{b(indent)}{self._else(indent)}",
            lambda: (
                f"{indent}{self._async()}for {self._target()} in {self._some(self._operand, 1)}:"
                f"{b(indent)}{self._else(indent)}"
            ),
            lambda: self._try(indent),
            lambda: f"{indent}{self._async()}with {self._items()}:{b(indent)}",
            lambda: (
                f"{self._decorators(indent)}{indent}{self._async()}def {self._name()}"
                f"{self._type_parameters()}({self._parameters(True)})"
                + (f" -> {e()}" if self._chance(0.3) else "")
                + f":{b(indent)}"
            ),
            lambda: (
                f"{self._decorators(indent)}{indent}class {self._name()}{self._type_parameters()}"
                + (f"({self._arguments()})" if self._chance(0.4) else "")
                + f":{b(indent)}"
            ),
        ]
        if self._version >= (3, 10):
            options.append(lambda: self._match(indent))
        return options[self._rng.randrange(len(options))]()

    def _async(self) -> str:
        return "async " if self._chance(0.15) else ""

    def _else(self, indent: str) -> str:
        return f"{indent}else:{self._block(indent)}" if self._chance(0.3) else ""

    def _decorators(self, indent: str) -> str:
        if self._chance(0.75):
            return ""
        return (
            f"{indent}@{self._name()}.x({self._name()})\n"
            if self._version < (3, 9)
            else f"{indent}@{self._expression()}\n"
        )

    def _items(self) -> str:
        def item() -> str:
            return self._operand() + (f" as {self._name()}" if self._chance(0.5) else "")

        plain = self._some(item, 1, 2, comma=False)
        return f"({plain},)" if self._version >= (3, 10) and self._chance(0.3) else plain

    def _try(self, indent: str) -> str:
        text = f"{indent}try:{self._block(indent)}"
        if self._chance(0.3):
            return f"{text}{indent}finally:{self._block(indent)}"
        star = "*" if self._version >= (3, 11) and self._chance(0.2) else ""
        for _ in range(self._rng.randint(1, 2)):
            name = f" as {self._name()}" if self._chance(0.4) else ""
            text += f"{indent}except{star} {self._operand()}{name}:{self._block(indent)}"
        if not star and self._chance(0.3):
            text += f"{indent}except:{self._block(indent)}"
        if self._version >= (3, 14) and self._chance(0.2):
            text = f"{indent}try: pass\n{indent}except{star} a, b:{self._block(indent)}"
        return text + self._else(indent) + (f"{indent}finally:{self._block(indent)}" if self._chance(0.2) else "")

    def _match(self, indent: str) -> str:
        subject = self._rng.choice(
            (self._expression(), f"{self._operand()}, {self._operand()}", f"*{self._name()}, {self._name()}")
        )
        deeper = indent + self._rng.choice(_INDENTS)
        cases = ""
        for _ in range(self._rng.randint(1, 3)):
            guard = f" if {self._expression()}" if self._chance(0.3) else ""
            pattern = self._pattern() if self._chance(0.8) else f"{self._pattern()}, *{self._name()}"
            cases += f"{deeper}case {pattern}{guard}:{self._block(deeper)}"
        return f"{indent}match {subject}:\n{cases}"

    def _pattern(self) -> str:
        p, rng = self._pattern, self._rng
        options: list[Callable[[], str]] = [
            lambda: rng.choice(("_", "a", "x", "match")),
            lambda: rng.choice(("1", "-1", "'s'", "None", "1 + 2j", "-1.5 - 3j", "b'a' b'b'", "True")),
            lambda: f"{self._name()}.{self._name()}",
            lambda: f"({self._some(p)})",
            lambda: f"[{self._some(p)}]",
            lambda: f"[{p()}, *_]",
            lambda: f"({p()} | {p()})",
            lambda: f"({p()}) as y",
            lambda: "{" + f"'k': {p()}, a.b: {p()}, **rest" + "}",
            lambda: f"A.B({p()}, {p()}, k={p()})",
        ]
        return self._pick(options)

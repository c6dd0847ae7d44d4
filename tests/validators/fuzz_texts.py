"""Texts for the fuzzer: real and random programs, whole, cut and spoilt. The same `rng` gives the same texts."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cache

from assistant.bench import corpus
from assistant.bench.snippets import bad, valid
from tests.validators.fuzz_programs import Programs, Version
from tests.validators.fuzz_soup import Soup
from validators import PythonValidator

_TOKENS = (
    *(
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        ";",
        ".",
        "...",
        "=",
        "==",
        ":=",
        "->",
        "!",
        "!=",
        "<>",
        "*",
        "**",
        "/",
        "//",
    ),
    *(
        "@",
        "-",
        "~",
        "\\",
        "\\\n",
        "\n",
        "\r\n",
        "\r",
        "\t",
        "\f",
        " ",
        "    ",
        "\n    ",
        "\n\t",
        "#",
        "# c\n",
        "'",
        '"',
    ),
    *("'''", '"""', "f'", 'f"""', "rb'", "b'é'", "u'", "fr'{", "{x}", "{x!r}", "{x:>{y}}", "{{", "}}", "{", "}", "!r}"),
    *(
        "\\x4",
        "\\u12",
        "\\N{DASH}",
        "\\N{",
        "\\777",
        "0",
        "01",
        "0x",
        "0xg",
        "1_",
        "1__0",
        "1e",
        "1.",
        "1if",
        "0o8",
        "9j",
    ),
    *(
        "a",
        "é",
        "ªb",
        "x²",
        "€",
        "\u200b",
        "\u00a0",
        "名",
        "_",
        "match ",
        "case ",
        "type ",
        "if ",
        "else ",
        "else:",
        "elif ",
    ),
    *(
        "for ",
        "in ",
        "while ",
        "def ",
        "class ",
        "lambda ",
        "lambda: ",
        "return ",
        "yield ",
        "yield from ",
        "await ",
        "async ",
    ),
    *(
        "import ",
        "from ",
        "as ",
        "with ",
        "try:",
        "except ",
        "except* ",
        "finally:",
        "raise ",
        "del ",
        "global ",
        "pass",
        "not ",
    ),
    *(
        "is ",
        "and ",
        "or ",
        "None",
        "True",
        "print ",
        "exec ",
        "@d\n",
        "assert ",
        "nonlocal x",
        "break",
        "t'",
        "\0",
        "\ufeff",
    ),
)
_PIECE = re.compile(r"[^\W\d]\w*|\d[\w.]*|[ \t]+|\r?\n|[\s\S]")
_LINE = re.compile(r".*?(?:\r\n?|\n|\Z)", re.DOTALL)


class Texts:
    """Draws texts for one Python version."""

    def __init__(self, rng: random.Random, version: Version, snippets: Sequence[str] = ()) -> None:
        """`snippets` are more texts to start from, good and bad."""
        self._rng = rng
        self._snippets = (*_valid(version), *snippets)
        self._programs = Programs(rng, version)
        self._soup = Soup(rng)

    def program(self) -> str:
        """A text that most likely parses: a random program, a few snippets, or a part of a real file."""
        kind = self._rng.random()
        if kind < 0.4:
            return self._programs.program()
        if kind < 0.7:
            return "\n".join(self._rng.choice(self._snippets) for _ in range(self._rng.choice((1, 1, 2, 3))))
        text = self._rng.choice(_sources()).text
        starts = [found.start() for found in re.finditer(r"^[^\s#)\]}]", text, re.MULTILINE)]
        begin = self._rng.randrange(len(starts))
        end = min(begin + self._rng.randint(1, 4), len(starts) - 1)
        part = text[starts[begin] : starts[end]]
        if len(part) > 1500:
            part = part[: part.rfind("\n", 0, 1500) + 1]
        return corpus.WRITINGS[self._rng.choice(list(corpus.WRITINGS))](part)

    def soup(self, validator: PythonValidator) -> str:
        """A text that a rule of Python's decides about: it may parse, or nearly."""
        kind = self._rng.random()
        if kind < 0.4:
            return self._soup.program()
        if kind < 0.7:
            return self._soup.strings()
        if kind < 0.85:
            return self._soup.layout()
        return self._soup.deep() if kind < 0.87 else self._soup.walk(validator)

    def spoilt(self, text: str) -> str:
        """`text` with one to three random changes."""
        for _ in range(self._rng.choice((1, 1, 1, 2, 3))):
            text = self._rng.choice((self._tokens, self._tokens, self._tokens, self._lines, self._glue))(text)
        return text

    def noise(self) -> str:
        """Tokens in a row, with no sense at all."""
        return "".join(self._rng.choice(_TOKENS) for _ in range(self._rng.randint(1, 12)))

    def middle(self, text: str) -> str:
        """What may come to stand in a gap instead of `text`."""
        return self._rng.choice(
            (self.spoilt, lambda text: text[: self._rng.randint(0, len(text))], lambda _: self.noise())
        )(text)

    def _tokens(self, text: str) -> str:
        parts = _PIECE.findall(text) or [""]
        at, kind = self._rng.randrange(len(parts)), self._rng.randrange(5)
        if kind == 0:
            parts[at] = self._rng.choice(_TOKENS)
        elif kind == 1:
            parts.insert(at, self._rng.choice(_TOKENS))
        elif kind == 2:
            del parts[at : at + self._rng.randint(1, 3)]
        elif kind == 3:
            other = self._rng.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        else:
            parts.insert(at, self._rng.choice(parts))
        return "".join(parts)

    def _lines(self, text: str) -> str:
        lines = _LINE.findall(text)
        at, kind = self._rng.randrange(len(lines)), self._rng.randrange(5)
        if kind == 0:
            lines[at] = self._rng.choice((" ", "    ", "\t", "\f", "  \f ", "\\\n")) + lines[at]
        elif kind == 1:
            lines[at] = lines[at].removeprefix(self._rng.choice((" ", "    ", "\t")))
        elif kind == 2:
            del lines[at]
        elif kind == 3:
            lines.insert(at, self._rng.choice(lines))
        else:
            other = self._rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        return "".join(lines)

    def _glue(self, text: str) -> str:
        """Take out or add a character, most often a blank."""
        places = [at for at, character in enumerate(text) if character == " "] or [0]
        at = self._rng.choice(places) if self._rng.random() < 0.7 else self._rng.randint(0, len(text))
        return text[:at] + self._rng.choice(("", "", "'", '"', "{", "}", "=", "\n", "_", "0", ",")) + text[at + 1 :]


@cache
def _valid(version: Version) -> tuple[str, ...]:
    mended = (snippet.mended for snippet in bad() if version in snippet.versions)
    return (*(snippet.text for snippet in valid() if version in snippet.versions), *mended)


@cache
def _sources() -> list[corpus.Source]:
    return corpus.standard_library(60, seed=1)

"""The terminals that a piece of text is, or can still become."""

from __future__ import annotations

from keyword import kwlist

from validators.machine import Machine

__all__ = ["KEYWORDS", "OPERATORS", "Words"]

KEYWORDS = tuple(kwlist)  # the same words in 3.8 to 3.14
_SOFT = ("match", "case", "type", "_")
_AUGMENTED = ("+=", "-=", "*=", "@=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=", "**=", "//=")
OPERATORS = (
    "(", ")", "[", "]", "{", "}", ",", ":", ";", ".", "...", "->", "+", "-", "*", "/", "//", "%", "@", "**",
    "|", "^", "&", "<<", ">>", "~", "<", ">", "==", ">=", "<=", "!=", ":=", "=",
)  # fmt: skip
# Keywords that may follow a number without a blank, since CPython 3.10 (verify_end_of_number).
_AFTER_NUMBER = ("and", "else", "for", "if", "in", "is", "or", "not")


class Words:
    """Tables from text to terminals for one version; masks are those of ``machine``."""

    def __init__(self, machine: Machine) -> None:
        version = machine.rules.version
        self.name = machine.terminal("NAME")
        self.words = {word: machine.terminal(repr(word)) for word in (*KEYWORDS, *_SOFT)}
        if version == (3, 8):  # later versions leave the binding of __debug__ to the compiler
            self.words["__debug__"] = machine.terminal("'__debug__'")
        if version == (3, 9):  # its parser knows a keyword that stands nowhere
            self.words["__peg_parser__"] = machine.terminal("'__peg_parser__'")
        self.operators = {sign: machine.terminal(repr(sign)) for sign in OPERATORS}
        augmented = machine.terminal("AUGASSIGN")
        self.operators.update(dict.fromkeys(_AUGMENTED, augmented))
        self.prefixes = _string_prefixes(version)
        self.number = machine.mask("NUMBER")
        self.imaginary = machine.mask("IMAGINARY")
        self._name_bit = 1 << self.name
        self.starts: dict[str, int] = {}  # beginnings of names that can become something special
        for word, terminal in self.words.items():
            self._add(self.starts, word, 1 << terminal)
        for prefix, kind in self.prefixes.items():
            self._add(self.starts, prefix, machine.mask(kind))
        self.after_number: dict[str, int] = {}
        for word in KEYWORDS if version < (3, 10) else _AFTER_NUMBER:
            self._add(self.after_number, word, 1 << self.words[word])
        self.signs: dict[str, int] = {}  # beginnings of operators
        for sign, terminal in self.operators.items():
            self._add(self.signs, sign, 1 << terminal)
        self.signs["."] |= self.number | self.imaginary
        self.conversion = machine.terminal("'!'")  # where a replacement field is read as code
        self.signs["!"] |= 1 << self.conversion

    def _add(self, table: dict[str, int], word: str, bits: int) -> None:
        for end in range(1, len(word) + 1):
            table[word[:end]] = table.get(word[:end], 0) | bits

    def name_mask(self, part: str) -> int:
        """What a name that begins with ``part`` can become."""
        return self.starts.get(part, 0) | self._name_bit

    def number_mask(self, run: str) -> int:
        """What a number that begins with ``run`` can become."""
        if run[:2].lower() in ("0x", "0o", "0b"):
            return self.number
        return self.imaginary if run[-1] in "jJ" else self.number | self.imaginary


def _string_prefixes(version: tuple[int, int]) -> dict[str, str]:
    """Every way to write a string prefix -> the terminal of the string."""
    kinds = {"r": "STRING", "u": "STRING", "b": "BYTES", "br": "BYTES", "f": "FSTRING", "fr": "FSTRING"}
    if version >= (3, 14):
        kinds |= {"t": "TSTRING", "tr": "TSTRING"}
    spellings = {}
    for prefix, kind in kinds.items():
        for order in {prefix, prefix[::-1]}:
            for bits in range(1 << len(order)):
                spelling = "".join(c.upper() if bits >> n & 1 else c for n, c in enumerate(order))
                spellings[spelling] = kind
    return spellings

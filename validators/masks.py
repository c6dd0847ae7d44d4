"""All tokens of a vocabulary that may come next, at once.

A token's meaning to the scanner depends on the lexical place; a ``Table`` holds it for the whole vocabulary. The
parser's part is one question to the ``Follower``. A mask is put together from at most three tables: tokens that begin
a new lexeme are what they are behind a blank, those that lengthen the unfinished one have a table of their own.
Rare places (deep nesting, an escape that is half typed) are asked text by text, in the order of the alphabet, so that
a refused beginning is asked once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property

from validators.blocks import MOST_INDENTS, Block
from validators.halves import examples, split
from validators.layout import FRESH
from validators.lexing import ODD, Lexer, Way
from validators.lines import CODE, COMMENT, CONVERSION, LITERAL, SKIP, START, STRING, Line
from validators.literals import NUMBER_RUN, StringKind, plain_digits
from validators.machine import Node
from validators.marks import LineStart
from validators.scanner import Scanner
from validators.signatures import Follower
from validators.strings import MOST_BRACKETS
from validators.tables import Place, Sets, Table, context
from validators.trials import Trials
from validators.vocabulary import Vocabulary, category

__all__ = ["Masks"]

_MOST_PLACES = 20_000  # whose masks are kept
_MOST_MASKS = 1_500  # different ones; one is as large as the vocabulary has ids, in bits
_MOST_TABLES = 400
_LONGEST = 64  # brackets that one token may open
_DEEPEST = 100  # f-strings around a place
_WORD = frozenset("a0")
_HEX = "0123456789abcdefABCDEF"
_MISSING = {"x": 4, "u": 6}  # length of a finished escape
_DONE = Way((), -1)
_HEAD = re.compile(r"[A-Za-z0-9_]+(?=[^A-Za-z0-9_\x80-\U0010ffff])")
_ASCII = re.compile(r"[\0-\x7f]+")
_QUOTING = frozenset("'\"#\\{}")
_NOTHING = "?"  # never part of a program


class Masks:
    """Masks as integers for one vocabulary: bit i is token i. What has been found out is kept."""

    def __init__(self, scanner: Scanner, vocabulary: Vocabulary) -> None:
        self._scanner = scanner
        self._vocabulary = vocabulary
        self._lexer = Lexer(scanner.machine)
        self._follower = Follower(scanner.machine)
        self._tables: dict[object, Table] = {}
        self._sets = Sets(vocabulary.size)
        self._known: dict[object, int] = {}
        self._equal: dict[int, int] = {}
        self._starts: dict[tuple[Node | None, ...], int] = {}
        self._trials = Trials(scanner, vocabulary)
        self.unknown = 0
        """Masks that had to be put together."""

    @property
    def asked(self) -> int:
        """Texts that were tried one by one."""
        return self._trials.asked

    def of(self, line: Line, block: Block, pending: bytes = b"") -> int:
        """The tokens that may come next behind ``pending``, the bytes of a character that has begun."""
        shallow = block.depth < MOST_INDENTS - 2
        found = self._known.get((line, pending)) if shallow else None
        if found is None:
            found = self._known.get((line, block, pending))
        if found is None:
            self.unknown += 1
            asked = self.asked
            found = self._halves(line, block, pending) if pending else self._whole(line, block)
            if len(self._known) >= _MOST_PLACES or len(self._equal) >= _MOST_MASKS:
                self._known.clear()
                self._equal.clear()
            found = self._equal.setdefault(found, found)
            anywhere = shallow and line.kind != START and self.asked == asked
            self._known[(line, pending) if anywhere else (line, block, pending)] = found
        return found

    def _halves(self, line: Line, block: Block, pending: bytes) -> int:
        bits = 0
        for token, piece in self._vocabulary.continuations:
            found = split(pending + piece)
            if found is not None:
                text, rest = found
                endings = examples(rest) if rest else ("",)
                if any(self._trials.may(line, block, text + ending) for ending in endings):
                    bits |= 1 << token
        return bits

    def _whole(self, line: Line, block: Block) -> int:
        frame = line.frame
        if (
            frame.depth > MOST_BRACKETS - _LONGEST
            or frame.strings > _DEEPEST
            or block.depth >= MOST_INDENTS - 2
            or (self._scanner.machine.rules.version == (3, 8) and frame.has_keywords())
        ):
            return self._trials.sorted_texts(line, block, self._sorted)
        if line.kind == START:
            return self._at_start(line, block)
        if line.kind in (COMMENT, SKIP):
            return self._comment(line, block)
        if line.kind == STRING:
            return self._string(line, block)
        if line.kind == LITERAL:
            return self._literal(line, block)
        if line.kind == CODE:
            return self._code(line, block)
        return self._conversion(line, block)

    def _code(self, line: Line, block: Block) -> int:
        part = line.part
        if part == "\\":
            return self._trials.sorted_texts(line, block, self._beginning("\n\r"))
        if part == "\\\r":
            return self._trials.sorted_texts(line, block, self._beginning("\n")) | self._behind(
                line, block, frozenset("\n")
            )
        if not part or part[0] == "\\":
            return self._root(line, block)
        first = part[0]
        if first.isdigit() or (first == "." and part[1:2].isdigit()):
            lengthens = _WORD | ({"+", "-"} if part[-1] in "eE" else set())
            lengthens |= {"."} if part.replace("_", "").isdigit() else set()
            return self._behind(line, block, lengthens) | self._number(line, block)
        if first.isalpha() or first == "_" or first > "\x7f":
            quotes = frozenset("'\"") if part in self._scanner.words.prefixes else frozenset[str]()
            return self._behind(line, block, _WORD | quotes) | self._word(line, block, quotes)
        signs = self._scanner.words.operators
        lengthens = frozenset(sign[len(part)] for sign in signs if sign.startswith(part) and sign != part)
        lengthens |= {"0", "."} if first == "." else {"a"} if first == "!" else set()
        own = self._table((part,), Place(CODE, part, None), lambda: self._vocabulary.of_category(lengthens))
        return self._behind(line, block, lengthens) | self._ask(own, line, block)

    def _root(self, line: Line, block: Block, but: frozenset[str] = frozenset()) -> int:
        return self._ask(self._between, line, block, but)

    def _behind(self, line: Line, block: Block, lengthens: frozenset[str]) -> int:
        """Tokens that end the unfinished token: as if a blank had ended it."""
        scan = self._scanner.scan(line, block, " ")
        if scan.refused:
            return 0
        assert scan.kind == CODE and not scan.part
        return self._root(self._scanner.place(scan), block, lengthens)

    def _word(self, line: Line, block: Block, quotes: frozenset[str]) -> int:
        vocabulary, words = self._vocabulary, self._scanner.words
        bits = self._ask(self._in_name, line, block)
        part = line.part
        if part not in words.starts:
            return bits
        special = {each[len(part) :] for each in words.starts if each.startswith(part) and each != part}
        whole = {*words.words, *words.prefixes}
        found = [text for text in special if text in vocabulary.ids]
        found += [
            text
            for head, texts in self._heads.items()
            if head in special and part + head in whole
            for text in texts
        ]  # fmt: skip
        own = self._table(
            (part,),
            Place(CODE, part, None),
            lambda: [*found, *vocabulary.of_category(quotes)],
        )
        return bits & ~vocabulary.bits(found) | self._ask(own, line, block)

    def _number(self, line: Line, block: Block) -> int:
        part = line.part
        match = NUMBER_RUN.match(part)
        if match is None or len(part) > 1_000:
            return self._trials.sorted_texts(line, block, sorted(self._vocabulary.of_category(_WORD | set(".+-"))))
        part = plain_digits(part)
        own = self._table((part,), Place(CODE, part, None), lambda: self._number_texts(part))
        return self._ask(own, line, block)

    def _number_texts(self, part: str) -> list[str]:
        """Texts that can lengthen the number; of the letters those that are its own or begin a keyword behind it."""
        words = "|".join(sorted(self._scanner.words.after_number, key=len, reverse=True))
        sensible = re.compile(rf"(?:[0-9a-fA-F_xXoOjJ.]|[eE][+-]?)*(?:{words})?(?![A-Za-z0-9_.\x80-\U0010ffff])").match
        line = self._lexer.place_in(CODE, part, None, ())
        found = []
        for first, texts in self._vocabulary.by_first.items():
            if category(first) in "a0.+-" and first.isascii() and self._lexer.ways(line, first):
                found += [text for text in texts if sensible(part + text) or ".." in text]
        return found

    def _string(self, line: Line, block: Block) -> int:
        kind, part = line.detail, line.part
        assert isinstance(kind, StringKind)
        if part in ("3", "4"):
            return self._trials.sorted_texts(line, block, self._sorted)
        if part == "2":
            quote = frozenset(kind.quote)
            own = self._table((kind, part), Place(STRING, part, kind), lambda: self._vocabulary.of_category(quote))
            return self._behind(line, block, quote) | self._ask(own, line, block)
        return self._quoted(line, block, kind)

    def _literal(self, line: Line, block: Block) -> int:
        part, kind = line.part, line.frame.kind
        assert kind is not None
        if part == "{":
            brace = frozenset("{")
            own = self._table((LITERAL, part), Place(LITERAL, part, kind), lambda: self._beginning("{"))
            return self._behind(line, block, brace) | self._ask(own, line, block)
        if part == "}":
            own = self._table((LITERAL, part), Place(LITERAL, part, kind), lambda: self._beginning("}"))
            return self._ask(own, line, block)
        return self._quoted(line, block, kind)

    def _quoted(self, line: Line, block: Block, kind: StringKind) -> int:
        """In the text of a string, perhaps in an escape or behind a quote."""
        part, run = line.part, kind.run.fullmatch
        letter = part[1:2] if part[:1] == "\\" else ""
        if letter and letter not in _MISSING:
            return self._trials.sorted_texts(line, block, self._sorted)
        if letter:
            part = part[:2] + "0" * (len(part) - 2)
            missing = _MISSING[letter] - len(part)
            own = self._table(
                (line.kind, kind, part),
                Place(line.kind, part, kind),
                lambda: [text for text in self._beginning(_HEX) if not text[:missing].strip(_HEX)],
                lambda text: run(text) is not None,
            )
        elif part == "\\":
            special = "" if kind.raw else "xuUN{}"
            own = self._table(
                (line.kind, kind, part),
                Place(line.kind, part, kind),
                lambda: list(self._vocabulary.ids),
                lambda text: text[0] not in special and run(text) is not None,
            )
        else:
            own = self._table(
                (line.kind, kind, part),
                Place(line.kind, part, kind),
                lambda: list(self._vocabulary.ids),
                lambda text: run(text) is not None,
            )
        return self._ask(own, line, block)

    def _conversion(self, line: Line, block: Block) -> int:
        if line.part and self._scanner.nested:
            return self._behind(line, block, _WORD)
        begins = ":}" if line.part else "sra"
        place = Place(CONVERSION, line.part, None)
        own = self._table((CONVERSION, line.part), place, lambda: self._beginning(begins))
        return self._ask(own, line, block)

    def _comment(self, line: Line, block: Block) -> int:
        own = self._table(
            (line.kind, line.node is None),
            Place(line.kind, "", None, blank=line.node is None),
            lambda: list(self._vocabulary.ids),
            lambda text: "\n" not in text and "\r" not in text,
        )
        return self._ask(own, line, block)

    def _at_start(self, line: Line, block: Block) -> int:
        if line.part:
            return self._trials.sorted_texts(
                line, block, self._beginning("\n\r") if line.part == "\\" else self._sorted
            )
        always, leads, odd = self._indented
        entries = self._scanner.entries
        nodes: list[Node | None] = []
        for lead in leads:
            inside = self._indent(line, block, lead)
            nodes.append(None if inside is None else entries[inside.context])
            if inside is not None and inside.depth >= MOST_INDENTS - 2:
                return self._trials.sorted_texts(line, block, self._sorted)
        key = tuple(nodes)
        bits = self._starts.get(key)
        if bits is None:
            bits, trials = always, set[str]()
            for node, tokens in zip(nodes, leads.values(), strict=True):
                if node is not None:
                    first, odds = self._between.tokens(node, 0)
                    bits |= first & tokens
                    trials.update(odds)
            if not trials:
                if len(self._starts) >= _MOST_MASKS // 4:
                    self._starts.clear()
                self._starts[key] = bits
            odd = [*odd, *trials]
        return bits | self._trials.texts(line, block, odd)

    def _indent(self, line: Line, block: Block, lead: str) -> Block | None:
        """The block that a statement behind ``lead`` stands in; None where it cannot stand."""
        assert isinstance(line.detail, tuple)
        column, tabbed, held, _ = line.detail
        if held is None and "\t" not in lead:
            return block.at(column + len(lead), tabbed + len(lead))[0]
        scan = self._scanner.scan(line, block, lead + _NOTHING)
        return scan.block if any(isinstance(mark, LineStart) for mark in scan.marks) else None

    def _ask(self, table: Table, line: Line, block: Block, but: frozenset[str] = frozenset()) -> int:
        bits, odd = table.tokens(line.node or self._scanner.machine.bottom, context(line.frame), but)
        return bits | self._trials.texts(line, block, odd) if odd else bits

    def _table(
        self,
        key: object,
        place: Place,
        texts: Callable[[], Sequence[str]],
        plain: Callable[[str], bool] = lambda text: False,
        way: Way = _DONE,
    ) -> Table:
        table = self._tables.get(key)
        if table is None:
            if len(self._tables) >= _MOST_TABLES:
                self._tables.clear()
            table = Table(self._lexer, self._follower, self._vocabulary, self._sets, place, texts(), plain, way)
            self._tables[key] = table
        return table

    def _beginning(self, characters: str) -> list[str]:
        return sorted(text for first in characters for text in self._vocabulary.by_first.get(first, ()))

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._vocabulary.ids)

    @cached_property
    def _between(self) -> Table:
        """Between two lexemes."""
        special = self._scanner.words.starts

        def plain(text: str) -> bool:
            word = text.lstrip(" \t\f")
            return self._scanner.known.identifier(word) and word not in special

        texts = [text for text in self._vocabulary.ids if self._may_be_code(text)]
        place = Place(CODE, "", None)
        return Table(self._lexer, self._follower, self._vocabulary, self._sets, place, texts, plain, self._a_name)

    @cached_property
    def _in_name(self) -> Table:
        """In a name that no keyword begins like."""
        texts = [text for text in self._vocabulary.of_category(_WORD) if self._may_be_code(text)]
        place = Place(CODE, "zz", None)

        def plain(text: str) -> bool:
            return self._scanner.known.identifier("z" + text)

        return Table(self._lexer, self._follower, self._vocabulary, self._sets, place, texts, plain, self._a_name)

    def _may_be_code(self, text: str) -> bool:
        """Whether the characters beyond ASCII can be those of names, or else may stand in a string or a comment."""
        return (
            text.isascii()
            or not _QUOTING.isdisjoint(text)
            or self._scanner.known.identifier("a" + _ASCII.sub("", text))
        )

    @cached_property
    def _a_name(self) -> Way:
        return Way((), 1 << self._scanner.words.name)

    @cached_property
    def _heads(self) -> dict[str, list[str]]:
        """Letters that a text begins with, where something else follows them."""
        found: dict[str, list[str]] = {}
        for text in self._vocabulary.ids:
            match = _HEAD.match(text)
            if match:
                found.setdefault(match[0], []).append(text)
        return found

    @cached_property
    def _indented(self) -> tuple[int, dict[str, int], list[str]]:
        """(tokens that may always begin a line, those with code by their blanks, texts that have to be tried)."""
        always, leads, odd = list[str](), dict[str, list[str]](), list[str]()
        start = self._lexer.place_in(START, "", FRESH, (), True)
        backslashes_vary = self._scanner.machine.rules.version == (3, 8)
        for text in self._vocabulary.ids:
            rest = text.lstrip(" \t")
            if rest and rest[0] not in "\r\n#\\\f":
                leads.setdefault(text[: len(text) - len(rest)], []).append(text)
            elif not rest:
                always.append(text)
            else:
                varies = rest[0] == "\f" or (backslashes_vary and "\\" in rest)
                ways = ODD if varies else self._lexer.ways(start, text)
                if ways is ODD:
                    odd.append(text)
                elif ways:
                    always.append(text)
        bits = self._vocabulary.bits
        return bits(always), {lead: bits(texts) for lead, texts in leads.items()}, odd

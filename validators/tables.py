"""The vocabulary read from one lexical place: classes of tokens that are the same to the parser there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from validators.lexing import MOST_CLOSED, ODD, Chain, Lexer, Way
from validators.lines import Frame
from validators.literals import StringKind
from validators.machine import Node
from validators.signatures import Follower, Trie
from validators.vocabulary import Vocabulary, bits_of, category

__all__ = ["Context", "Place", "Table", "context"]

_LARGE = 24  # tokens: larger classes are kept as masks
_MOST_UNIONS = 1_500  # kept over all tables; one is as large as the vocabulary has ids, in bits
_TOUCHY = frozenset("\r\n#\\)]}:!\"'")
"""Without these a text is the same in all brackets."""

Context = int | Chain
"""How many brackets are open, at most one more than tokens close; or all of them where f-strings are among them."""


def context(frame: Frame) -> Context:
    if not frame.strings:
        return min(frame.level, MOST_CLOSED + 1)
    chain, each, outside = list[tuple[str, StringKind | None]](), frame, 0
    while each.parent is not None:
        outside += not each.strings
        if outside > MOST_CLOSED:
            chain.append(("B", None))
            break
        chain.append((each.opener, each.kind if each.opener == "f" else None))
        each = each.parent
    return tuple(chain)


class Place(NamedTuple):
    """A lexical place: what kind, the unfinished token, its details, and whether a statement is around it."""

    kind: int
    part: str
    detail: object
    blank: bool = False


class Sets:
    """Masks of classes and of their unions. Equal ones are one object; the unions are forgotten from time to time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._classes: dict[int, int] = {}
        self._unions: dict[tuple[Table, int], int] = {}

    def of(self, ids: Sequence[int]) -> int:
        bits = bits_of(self._size, ids)
        return self._classes.setdefault(bits, bits)

    def union(self, table: Table, classes: int) -> int:
        key = (table, classes)
        bits = self._unions.get(key)
        if bits is None:
            if len(self._unions) >= _MOST_UNIONS:
                self._unions.clear()
            bits = self._unions[key] = table.expand(classes)
        return bits


class _Reading(NamedTuple):
    """The vocabulary's sensitive part in one context."""

    trie: Trie
    odd: tuple[str, ...]


class Table:
    """``texts`` as they are at ``place``. ``plain(text)`` says that a text needs no reading there: it is ``way``."""

    def __init__(
        self,
        lexer: Lexer,
        follower: Follower,
        vocabulary: Vocabulary,
        sets: Sets,
        place: Place,
        texts: Sequence[str],
        plain: Callable[[str], bool],
        way: Way,
    ) -> None:
        self._lexer = lexer
        self._follower = follower
        self._vocabulary = vocabulary
        self._sets = sets
        self._place = place
        self._numbers: dict[tuple[Trie, str, tuple[Way, ...]], int] = {}
        self._members: list[list[int]] = []  # class -> tokens
        self._masks: dict[int, int] = {}  # large class -> mask
        self._large = 0
        self._of_category: dict[str, int] = {}
        self._steady = Trie()
        self._touchy: list[str] = []
        self._known: dict[Context, _Reading] = {}
        self._odd: list[str] = []
        self._uneven: list[str] = []
        self._common = Trie()
        self._levels: list[tuple[str, int, tuple[Way, ...], tuple[Way, ...]]] | None = None
        line = lexer.place_in(*place[:3], (), place.blank)
        calm = place.detail is None and _TOUCHY.isdisjoint(place.part)
        for text in texts:
            if plain(text):
                self._add(self._steady, text, (way,))
            elif calm and _TOUCHY.isdisjoint(text):
                self._put(self._steady, self._odd, text, lexer.ways(line, text))
            else:
                self._touchy.append(text)
        self._settle()

    def tokens(self, node: Node, where: Context, but: frozenset[str] = frozenset()) -> tuple[int, tuple[str, ...]]:
        """(the tokens that may come next, as a mask; texts that have to be tried) without these categories of text."""
        reading = self._known.get(where)
        if reading is None:
            reading = self._known[where] = self._read(where)
        classes = self._follower.classes(node, self._steady) | self._follower.classes(node, reading.trie)
        if not isinstance(where, tuple):
            classes |= self._follower.classes(node, self._common)
        odd = reading.odd
        for each in but:
            classes &= ~self._of_category.get(each, 0)
        if but and odd:
            odd = tuple(text for text in odd if category(text) not in but)
        return self._sets.union(self, classes), odd

    def expand(self, classes: int) -> int:
        """The tokens of these classes, as a mask."""
        small, large, ids = classes & ~self._large, classes & self._large, list[int]()
        while small:
            lowest = small & -small
            ids += self._members[lowest.bit_length() - 1]
            small ^= lowest
        bits = bits_of(self._vocabulary.size, ids)
        while large:
            lowest = large & -large
            bits |= self._masks[lowest.bit_length() - 1]
            large ^= lowest
        return bits

    def _read(self, where: Context) -> _Reading:
        trie, odd = Trie(), list(self._odd)
        if isinstance(where, tuple):
            line = self._lexer.place_in(*self._place[:3], where, self._place.blank)
            for text in self._touchy:
                self._put(trie, odd, text, self._lexer.ways(line, text))
        else:
            levels = self._by_level()
            odd += self._uneven
            for text, closed, alone, inside in levels:
                if closed <= where:
                    self._put(trie, odd, text, alone if closed == where else inside)
        self._settle()
        return _Reading(trie, tuple(odd))

    def _by_level(self) -> list[tuple[str, int, tuple[Way, ...], tuple[Way, ...]]]:
        """Touchy texts that are not the same everywhere, and what they are outside and inside of further brackets."""
        if self._levels is None:
            self._levels = []
            line = self._lexer.place_in(*self._place[:3], (), self._place.blank)
            for text in self._touchy:
                closed, alone = self._lexer.closing(line, text, False)
                again, inside = self._lexer.closing(line, text, True)
                if closed == again and alone == inside and alone is not ODD:
                    self._put(self._common, self._uneven, text, alone)
                elif closed == again:
                    self._levels.append((text, closed, alone, inside))
                else:
                    self._uneven.append(text)
        return self._levels

    def _put(self, trie: Trie, odd: list[str], text: str, ways: tuple[Way, ...]) -> None:
        if ways is ODD:
            odd.append(text)
        elif ways:
            self._add(trie, text, ways)

    def _add(self, trie: Trie, text: str, ways: tuple[Way, ...]) -> None:
        key = (trie, category(text), ways)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._members)
            self._members.append([])
            self._of_category[key[1]] = self._of_category.get(key[1], 0) | 1 << number
            for way in ways:
                trie.insert(way, 1 << number)
        self._members[number] += self._vocabulary.ids[text]

    def _settle(self) -> None:
        for number, members in enumerate(self._members):
            if len(members) >= _LARGE:
                self._masks[number] = self._sets.of(members) | self._masks.get(number, 0)
                self._large |= 1 << number
                members.clear()

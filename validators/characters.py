"""Letters and names of characters as each Python version knows them, whatever interpreter runs the validator.

Python 3.8 to 3.14 have six versions of the Unicode standard. ``characters.txt`` lists what each brought; the rest is
told by the running interpreter's ``unicodedata``.
"""

from __future__ import annotations

import sys
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import NamedTuple

from validators.aliases import ALIASES

__all__ = ["Characters", "characters", "is_new_letter", "new_letters"]

Version = tuple[int, int]
Range = tuple[int, int]

_UNICODE: dict[Version, Version] = {
    (3, 8): (12, 1), (3, 9): (13, 0), (3, 10): (13, 0), (3, 11): (14, 0), (3, 12): (15, 0), (3, 13): (15, 1),
    (3, 14): (16, 0),
}  # fmt: skip
_RUNNING = tuple(map(int, unicodedata.unidata_version.split(".")[:2]))
# Two families of names are made by a rule, and read with their letters as they are (Modules/unicodedata.c, _getcode).
_IDEOGRAPH = "CJK UNIFIED IDEOGRAPH-"
_SYLLABLE = "HANGUL SYLLABLE "
# What stands for a character that the running interpreter knows otherwise.
_START, _CONTINUE, _OTHER, _NONE = "a", "0", "!", "\0"


class _Added(NamedTuple):
    """What a version of the standard brought."""

    starts: list[Range]
    continues: list[Range]
    characters: list[Range]
    ideographs: list[Range]
    names: set[str]

    def promoted(self) -> list[Range]:
        """What has become a letter without being among the new characters."""
        letters = (*self.starts, *self.continues)
        return [(low, high) for low, high in letters if not any(a <= high and low <= b for a, b in self.characters)]


class Characters:
    """The letters and names of one Python version."""

    def __init__(self, version: Version) -> None:
        wanted = _UNICODE[version]
        differs = wanted != _RUNNING
        self._newer = [added for unicode, added in _table().items() if unicode > wanted] if differs else []
        self._older = [added for unicode, added in _table().items() if _RUNNING < unicode <= wanted] if differs else []
        changes = [(*each, _NONE) for added in self._newer for each in added.characters]
        changes += [(*each, _OTHER) for added in self._newer for each in added.promoted()]
        changes += [(*each, _START) for added in self._older for each in added.starts]
        changes += [(*each, _CONTINUE) for added in self._older for each in added.continues]
        self._changes = sorted(changes)
        self._names: list[str] = []
        self._syllables: list[str] = []
        self._ideographs: list[Range] = []

    def identifier(self, word: str) -> bool:
        """Whether ``word`` is a name, or a keyword."""
        return self._shown(word).isidentifier()

    def beginning(self, word: str) -> int:
        """How many characters of ``word`` are a name, or a keyword."""
        shown = self._shown(word)
        if not shown[:1].isidentifier():
            return 0
        return next((at for at, each in enumerate(shown) if not f"a{each}".isidentifier()), len(shown))

    def named(self, name: str) -> bool:
        """Whether ``name`` is that of one character."""
        try:
            found = unicodedata.lookup(name)
        except KeyError:
            listed = any(name.upper() in added.names for added in self._older)
            coded = (self._coded(name, added.ideographs, whole=True) for added in self._older)
            return listed or any(rest is not None for rest in coded)
        newer = any(name.upper() in added.names for added in self._newer)
        return len(found) == 1 and not newer and self._shown(found) != _NONE  # a named sequence is no character

    def ending(self, begun: str) -> str | None:
        """What is missing of a character's name that begins so; None where there is none."""
        if not self._names:
            self._list()
        for names, beginning in ((self._names, begun.upper()), (self._syllables, begun)):
            at = bisect_left(names, beginning)
            if at < len(names) and names[at].startswith(beginning):
                return names[at][len(begun) :]
        if _IDEOGRAPH.startswith(begun):
            return f"{_IDEOGRAPH}4E00"[len(begun) :]
        return self._coded(begun, self._ideographs, whole=False)

    def _shown(self, word: str) -> str:
        """``word`` with stand-ins for characters that the running interpreter would judge otherwise."""
        if not self._changes or word.isascii():
            return word
        return "".join(self._stand_in(character) for character in word)

    def _stand_in(self, character: str) -> str:
        point = ord(character)
        at = bisect_left(self._changes, (point + 1,)) - 1
        return self._changes[at][2] if at >= 0 and self._changes[at][1] >= point else character

    @staticmethod
    def _coded(name: str, ranges: list[Range], whole: bool) -> str | None:
        """What is missing of an ideograph's name in these ranges: 4 or 5 digits. ``whole``: of it nothing may miss."""
        digits = name.removeprefix(_IDEOGRAPH)
        if digits == name or not set(digits) <= set("0123456789ABCDEF"):
            return None
        for length in (len(digits),) if whole else (4, 5):
            if length not in (4, 5) or len(digits) > length:
                continue
            least, most = int(digits.ljust(length, "0"), 16), int(digits.ljust(length, "F"), 16)
            for low, high in ranges:
                if max(low, least) <= min(high, most):
                    return f"{max(low, least):0{length}X}"[len(digits) :]
        return None

    def _list(self) -> None:
        """Makes the sorted names of all characters, 4 MB, when they are first needed."""
        names = {name for name in ALIASES if not any(name in added.names for added in self._newer)}
        names.update(*(added.names for added in self._older))
        ideographs = [each for added in self._older for each in added.ideographs]
        syllables = []
        for point in range(sys.maxunicode + 1):
            name = unicodedata.name(chr(point), "")
            if not name or self._stand_in(chr(point)) == _NONE:
                continue
            if name.startswith(_IDEOGRAPH):
                if ideographs and ideographs[-1][1] == point - 1:
                    ideographs[-1] = (ideographs[-1][0], point)
                else:
                    ideographs.append((point, point))
            elif name.startswith(_SYLLABLE):
                syllables.append(name)
            else:
                names.add(name)
        self._names, self._syllables, self._ideographs = sorted(names), sorted(syllables), ideographs


characters = cache(Characters)


def is_new_letter(point: int) -> bool:
    """Whether only some of the Python versions know this code point as a letter."""
    ranges = _new()
    at = bisect_left(ranges, (point + 1,)) - 1
    return at >= 0 and ranges[at][1] >= point


def new_letters(among: range) -> list[str]:
    """Of the letters in a range of code points that only some Python versions know: the first of each kind and age."""
    found = []
    for added in _table().values():
        for ranges in (added.starts, added.continues):
            first = next((max(low, among[0]) for low, high in sorted(ranges) if high >= among[0]), among.stop)
            if first in among:
                found.append(chr(first))
    return found


@cache
def _new() -> list[Range]:
    return sorted(each for added in _table().values() for each in (*added.starts, *added.continues))


@cache
def _table() -> dict[Version, _Added]:
    table: dict[Version, _Added] = {}
    added = _Added([], [], [], [], set())
    for line in resources.files("validators").joinpath("characters.txt").read_text("ascii").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "==":
            major, minor = rest.split(".")
            added = table[int(major), int(minor)] = _Added([], [], [], [], set())
        elif kind in ("starts", "continues", "characters", "ideographs"):
            getattr(added, kind).extend(_ranges(rest))
        elif kind == "coded":  # the names of a family, each with its code point
            family, _, where = rest.partition(":")
            added.names.update(f"{family}-{point:X}" for low, high in _ranges(where) for point in range(low, high + 1))
        else:
            added.names.add(line)
    return table


def _ranges(text: str) -> Iterator[Range]:
    for each in text.split():
        low, _, high = each.partition("-")
        yield int(low, 16), int(high or low, 16)

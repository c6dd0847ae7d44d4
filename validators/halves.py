"""Characters of which only the first bytes are there yet."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import chain

from validators.characters import is_new_letter, new_letters

__all__ = ["examples", "split"]


def split(data: bytes) -> tuple[str, bytes] | None:
    """Whole characters, and the bytes of one that has begun. None if the bytes are not UTF-8."""
    try:
        return data.decode(), b""
    except UnicodeDecodeError as error:
        if error.end < len(data) or error.reason != "unexpected end of data":
            return None
        return data[: error.start].decode(), data[error.start :]


@cache
def examples(pending: bytes) -> tuple[str, ...]:
    """Characters that begin with the bytes `pending`, one of each kind that some version's grammar tells apart.

    The kinds are: may begin a name, may only continue a name, other; and of those that only some Python versions know
    as letters, one for each version of Unicode that brought some. Characters that NFKC changes come last: whether they
    may stand in a name depends on what they change to.
    """
    found: dict[str, str] = {}
    characters = [chr(code) for code in _codes(pending) if not is_new_letter(code)]
    changed = [character for character in characters if not unicodedata.is_normalized("NFKC", character)]
    for character in chain(sorted(set(characters).difference(changed)), changed):
        kind = "start" if character.isidentifier() else "continue" if f"a{character}".isidentifier() else "other"
        found.setdefault(kind, character)
        if len(found) == 3:
            break
    return (*found.values(), *new_letters(_range(pending)))


def _codes(pending: bytes) -> Iterable[int]:
    """Code points whose UTF-8 form begins with `pending`: all but those that are no different from others."""
    whole = _range(pending)
    return _told_apart(whole[0], whole[-1])


def _range(pending: bytes) -> range:
    """The code points whose UTF-8 form begins with `pending` (RFC 3629, section 3)."""
    lead = pending[0]
    length, bits = (2, lead & 0x1F) if lead < 0xE0 else (3, lead & 0x0F) if lead < 0xF0 else (4, lead & 0x07)
    for byte in pending[1:]:
        bits = bits << 6 | byte & 0x3F
    free = 6 * (length - len(pending))
    lowest = {2: 0x80, 3: 0x800, 4: 0x10000}[length]
    first, last = bits << free, (bits + 1 << free) - 1
    return range(max(first, lowest), min(last, 0x10FFFF) + 1)


def _told_apart(first: int, last: int) -> Iterable[int]:
    """The code points from `first` to `last`, one only of the planes 4 to 13, 15 and 16, which hold no character."""
    return chain(
        range(first, min(last, 0x3FFFF) + 1),
        range(max(first, 0x40000), min(last, 0xDFFFF) + 1)[:1],
        range(max(first, 0xE0000), min(last, 0xEFFFF) + 1),
        range(max(first, 0xF0000), last + 1)[:1],
    )

"""Numbers hidden in source, to be found again: what makes a model look back over thousands of tokens.

Plain text seldom needs anything that stands far away, so that a small model learns it late. A window of source is given
constants with random digits, and further on, tests that repeat them: `NAME = "48213"` … `assert NAME == "48213"`.
Source: Mohtashami & Jaggi, "Random-Access Infinite Context Length for Transformers", 2023, section 4.2 (the task);
here it is text to be trained on, several numbers a window, at any distance from what asks for them.
"""

from __future__ import annotations

from random import Random

import numpy as np
import numpy.typing as npt

from model.tokenizer import Tokenizer

Ids = npt.NDArray[np.int64]

NAMES = ("PASSKEY", "TOKEN", "SECRET", "LIMIT", "SEED", "VERSION", "CHECKSUM", "PORT", "SERIAL", "ACCOUNT")
KEYS = 8
"""Numbers of a window, at most."""
DIGITS = (4, 8)
"""Of a number, at least and at most."""
ROOM = 0.5
"""Share of a window that numbers and what asks for them take, at most."""


class Passkeys:
    """Windows of source with numbers in them; which, the seed and the number of the window decide."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._tokenizer, self._seed = tokenizer, seed
        self._ends_line = np.array([(piece or b"").endswith(b"\n") for piece in tokenizer.pieces])

    def hidden_in(self, ids: Ids, number: int) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """As many ids as `ids`, from its beginning, and which of them are to be found further back."""
        random = Random(f"{self._seed} passkeys {number}")
        pairs: list[tuple[list[int], list[int], list[int]]] = []
        room = int(len(ids) * ROOM)
        for name in self._names(random):
            pair = self._pair(name, random)
            room -= sum(map(len, pair))
            if room < 0:
                break
            pairs.append(pair)
        kept = len(ids) - sum(len(part) for pair in pairs for part in pair)
        breaks = np.flatnonzero(self._ends_line[ids[:kept]]) + 1
        places = np.concatenate([[0], breaks, [kept]])
        pieces: list[tuple[int, int, list[int], list[int]]] = []  # where, in which order there, ids, what is found
        for i, (hidden, asked, answer) in enumerate(pairs):
            first, last = sorted(int(places[random.randrange(len(places))]) for _ in range(2))
            # Half of them are asked for where all is over, as far away as a window has it.
            last = int(places[-1]) if random.random() < 0.5 else last
            pieces += [(first, i, hidden, []), (last, len(pairs) + i, asked, answer)]
        found: list[Ids] = []
        marks: list[npt.NDArray[np.bool_]] = []
        at = 0
        for place, _, before, answer in [*sorted(pieces), (kept, 2 * len(pairs), [], [])]:
            found += [ids[at:place], np.array([*before, *answer], dtype=np.int64)]
            marks += [np.zeros(place - at + len(before), dtype=np.bool_), np.ones(len(answer), dtype=np.bool_)]
            at = place
        return np.concatenate(found), np.concatenate(marks)

    def _names(self, random: Random) -> list[str]:
        count = random.randint(1, KEYS)
        return [name + random.choice(("", f"_{random.randrange(100)}")) for name in random.sample(NAMES, count)]

    def _pair(self, name: str, random: Random) -> tuple[list[int], list[int], list[int]]:
        """What says the number, what asks for it, and the number with the quote behind it."""
        value = "".join(random.choice("0123456789") for _ in range(random.randint(*DIGITS)))
        said = f'\n\n{name} = "{value}"\n\n\n'
        asked = f'\n\n\ndef test_{name.lower()}():\n    assert {name} == "'
        encode = self._tokenizer.encode
        return encode(said), encode(asked), [*encode(value), *encode('"\n')]

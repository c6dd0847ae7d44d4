"""Is drafted text the text that comes token by token? The same requests both ways, token for token.

Prompts are cut from held-out files by a seed: a gap of each measured shape, and the text left of one without the text
right of it. Both ways go through a session, under the same validator, greedily, from the same rows of the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assistant.completion import Completion, Request
from assistant.document import Gap
from assistant.eval.fim import File, gaps
from assistant.session import Session

MAX_TOKENS = 32
"""Of an answer."""


@dataclass(frozen=True)
class Prompt:
    """A request, and where it was cut."""

    name: str
    gap: Gap


@dataclass(frozen=True)
class Pair:
    """What came token by token, and what came of drafts."""

    prompt: Prompt
    plain: tuple[int, ...]
    drafted: tuple[int, ...]
    texts: tuple[str, str]
    passes: int
    """With drafts."""

    @property
    def difference(self) -> int | None:
        """The first token that differs; None if none does.

        The last block of a drafted text may hold tokens behind the place where the text ends. They are cut off with it.
        """
        for place, (a, b) in enumerate(zip(self.plain, self.drafted, strict=False)):
            if a != b:
                return place
        shorter = min(len(self.plain), len(self.drafted))
        return None if self.texts[0] == self.texts[1] and shorter == len(self.plain) else shorter


def prompts(files: Sequence[File], count: int, seed: int) -> list[Prompt]:
    """`count` of them, four per file, or as many as there are."""
    found = []
    for file in files:
        cuts = gaps([file], seed)
        found += [Prompt(f"{file.path}, {cut.shape}", Gap(cut.prefix, cut.suffix)) for cut in cuts]
        found += [Prompt(f"{file.path}, left of {cut.shape}", Gap(cut.prefix, "")) for cut in cuts[:1]]
    return found[:count]


def compare(session: Session, asked: Sequence[Prompt], max_tokens: int) -> Iterator[Pair]:
    """Every prompt both ways."""
    plain = session.undrafted()
    for prompt in asked:
        session.forget()
        (singly, a), (drafted, b) = (_answered(way, prompt.gap, max_tokens) for way in (plain, session))
        yield Pair(prompt, singly, drafted, (a.text, b.text), b.passes)


def _answered(session: Session, gap: Gap, max_tokens: int) -> tuple[tuple[int, ...], Completion]:
    ids: list[int] = []
    for chunk in session.stream(Request(gap, max_tokens=max_tokens, tries=1)):
        ids += chunk.step.ids
        if chunk.completion:
            return tuple(ids), chunk.completion
    raise AssertionError("a stream ends with its completion")

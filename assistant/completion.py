"""What a request asks for and what comes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from assistant.beside import Surroundings, nothing
from assistant.document import Gap
from assistant.settings import Settings
from validators import Problem


def goes_on(text: str) -> int | None:
    """It is over where the model or the session says so."""
    return None


@dataclass(frozen=True)
class Request:
    """One gap to fill. What is None is taken from the session's settings."""

    gap: Gap
    max_tokens: int | None = None
    max_ms: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    tries: int | None = None
    unit: str | None = None
    accept: str | None = None
    context_files: int | None = None
    beside: Callable[[], Surroundings] = nothing
    """Says what other files tell; asked if there is room for it."""
    over: Callable[[str], int | None] = goes_on
    """Asked after each pass, with all that it has written so far, where in that the answer is over for the caller: how
    many characters it is, at which the file parses. None while it is not."""

    def settings(self, session: Settings) -> Settings:
        """Those of the session, and what is asked for instead."""
        return session.replaced(
            **{name: getattr(self, name) for name in vars(self) if name in session.__struct_fields__}
        )


class Cancel:
    """A flag that a signal handler or another thread may raise; the decoder looks at it before and within passes."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def __call__(self) -> Literal["cancelled"] | None:
        return "cancelled" if self._event.is_set() else None


class Drafted(msgspec.Struct, frozen=True):
    """What one drafter did for a request."""

    passes: int = 0
    """Passes that it had a part in."""
    proposed: int = 0
    """Tokens proposed."""
    viable: int = 0
    """How many of those the validator let through."""
    kept: int = 0


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A finished request. Its fields are the command line's JSON. What it cost is the sum over all of its tries."""

    text: str
    """To be inserted as it is, with line ends as "\\n". Empty where nothing valid was found."""
    closing: str = ""
    """What of the end of `text` is not the model's: the validator closed what the budget left open."""
    valid: bool
    """Whether Python accepts the whole file with the text in its place."""
    finish_reason: str
    """`end` the model ended · `closed` it began to repeat the right-hand text · `unit` what was asked for is
    over · `length`, `time`, `context`, `cancelled` a limit or the caller · `dead end` nothing viable was left."""
    reason: str | None
    """Why the text is empty or not valid, or what was left out; None if there is nothing to say."""
    tries: int = 1
    """Answers that were written to the end, of which this is the best."""
    tokens: int
    """Tokens generated, those cut away included."""
    answer_tokens: int = 0
    """Of those, the ones of the try that is given."""
    passes: int
    """Passes of the model after the prompt."""
    drafted: int
    """Tokens proposed by the drafter."""
    accepted: int
    """Drafted tokens that were kept."""
    fallbacks: int
    """Passes in which a part of the draft was refused, so that the block fell back to a single token."""
    avoided: int
    """Tokens that the model preferred and the validator refused: syntax errors avoided."""
    forced: int = 0
    """Tokens taken without asking the model, nothing else being viable."""
    drafters: dict[str, Drafted] = {}
    """By drafter what it proposed, `forced` and `none` among them: nobody had anything to propose."""
    widest: int = 0
    """Tokens of the widest window."""
    prompt_tokens: int
    ms_first: float
    """Milliseconds to the first token of the first try, prompt included."""
    ms_total: float
    tokens_per_second: float
    """Generated tokens over the time after the prompt."""
    model: str
    device: str
    problems: tuple[Problem, ...] = ()
    """Where the file was broken before."""


def remarks(gap: Gap, problems: Sequence[Problem], text: str, cut: bool) -> str | None:
    """A completion's `reason`. problems: of the file before; cut: whether the prompt was."""
    said = [
        f"the file is broken {p.side} of the gap, at {':'.join(map(str, gap.place(p)))}: {p.reason}"
        for p in problems[:1]
    ]
    said += [] if text else ["nothing that the model wrote parses in its place"]
    said += ["the prompt was cut to the text nearest the gap"] if cut else []
    return "; ".join(said) or None

"""The one place that names concrete classes: a model, a validator and a drafter, joined to fill gaps."""

from __future__ import annotations

import codecs
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import model
from assistant import gap as gaps
from assistant import prompt as prompts
from assistant import store
from assistant.completion import Completion, Request
from assistant.counts import Clock, Tally
from assistant.document import Gap
from assistant.errors import UsageProblem, ViableError
from assistant.judge import refusal
from assistant.settings import Settings
from model import companions, gpu
from model.engine import (
    Drafter,
    FirstOf,
    Greedy,
    Interrupt,
    LookupDraft,
    NoDraft,
    Order,
    Sampled,
    Scorer,
    Step,
    decode,
    moving,
    never,
)
from model.engine.choose import scorer_for
from model.engine.mtp_draft import States
from model.lora import Switch
from validators import PythonValidator, TokenValidator
from validators.contracts import Validator

log = logging.getLogger(__name__)

SMALLEST_PROMPT = 8
"""Tokens that a prompt must have room for."""

CERTAIN = 5
"""Tokens that must have been written before for the text to be drafted from itself rather than by trained modules."""

WIDEST = 16
"""Tokens drafted at a time where text repeats itself."""


@dataclass(frozen=True)
class Chunk:
    """What one pass added, as it happens."""

    text: str
    """New characters; empty while a character is unfinished. The completion may keep fewer."""
    step: Step[Any]
    completion: Completion | None = None
    """With the last chunk: what is to be inserted."""


def open_session(settings: Settings) -> Session:
    """Find, load and join what the settings name."""
    found = store.resolve(settings.model, offline=settings.offline)
    try:
        decoder = model.load(found.path, device=_device(settings.device), dtype=settings.dtype)
        tokenizer = model.load_tokenizer(found.path)
        switch = companions.attach_adapter(decoder, found.sha256 if settings.adapter else None)
        scorer = scorer_for(decoder, min(settings.context, decoder.config.context_length))
    except model.ModelError as error:
        raise ViableError(str(error)) from error
    return Session(
        settings,
        found.name,
        str(decoder.device),
        scorer,
        tokenizer,
        PythonValidator(),
        _drafter(settings, found, decoder, scorer, scorer.capacity),
        switch,
    )


def _drafter(
    settings: Settings, found: store.ModelRef, decoder: model.Decoder, states: States, capacity: int
) -> Drafter:
    """A long repetition is drafted from itself, other text by trained modules, and without them from any repetition."""
    if settings.block == 1 or settings.draft == "none":
        return NoDraft()
    if settings.draft == "lookup":
        return LookupDraft()
    return FirstOf(
        LookupDraft(shortest=CERTAIN, longest=2 * CERTAIN),
        companions.mtp_drafter(decoder, found.path, found.sha256, states, capacity),
        LookupDraft(),
    )


def _device(wanted: str) -> str:
    """Where to compute. `auto` takes a GPU where there is one and says what it took; `cuda` insists."""
    problem = gpu.problem()
    if wanted == "cuda" and problem:
        raise ViableError(f"{problem}; --device cpu or auto computes on the processor")
    chosen = ("cpu" if problem else "cuda") if wanted == "auto" else wanted
    log.info("computing on %s (device: %s)", chosen, wanted)
    return chosen


class Session:
    """Fills gaps, one at a time. What two requests have in common at their start is computed once."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        device: str,
        scorer: Scorer,
        tokenizer: model.Tokenizer,
        validator: Validator[Any],
        drafter: Drafter,
        adapter: Switch,
    ) -> None:
        self.settings = settings
        self.name = name
        self.device = device
        self.capacity = scorer.capacity
        self._scorer = scorer
        self._tokenizer = tokenizer
        self._validator = validator
        self._tokens = TokenValidator(validator, tokenizer.pieces)
        self._drafter = drafter
        self._adapter = adapter
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Compute the next request from its first token: what it gives then depends on nothing before it."""
        with self._lock:
            self._scorer.truncate(0)

    def complete(self, request: Request, interrupt: Interrupt = never) -> Completion:
        """Fill a gap. Waits while another request is being served."""
        for chunk in self.stream(request, interrupt):
            if chunk.completion:
                return chunk.completion
        raise AssertionError("a stream ends with its completion")

    def stream(self, request: Request, interrupt: Interrupt = never) -> Iterator[Chunk]:
        """The same, as it happens: a chunk a pass, the last one with the completion."""
        settings = self.settings.replaced(
            max_tokens=request.max_tokens,
            max_ms=request.max_ms,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
        )
        if settings.max_tokens + SMALLEST_PROMPT > self.capacity:
            raise UsageProblem(
                f"max_tokens {settings.max_tokens} leaves no room for a prompt in a context of {self.capacity}"
            )
        with self._lock:
            prompt = prompts.build(
                self._tokenizer, request.gap.prefix, request.gap.suffix, self.capacity - settings.max_tokens
            )
            # The adapter was taught to fill gaps and nothing else. What was cached with it is not used without it: a
            # prompt that asks for a gap begins with another token than one that does not.
            with self._adapter.set(prompt.gap):
                yield from self._stream(request.gap, prompt, settings, interrupt)

    def _stream(self, gap: Gap, prompt: prompts.Prompt, settings: Settings, interrupt: Interrupt) -> Iterator[Chunk]:
        clock = Clock(settings.max_ms, interrupt)
        start = self._tokens.start(gap.prefix, gap.suffix)
        tally = Tally()
        text = ""
        characters = codecs.getincrementaldecoder("utf-8")("replace")
        needle = gaps.needle(gap.suffix)
        for step in decode(
            prompt.ids,
            scorer=self._scorer,
            validator=self._tokens,
            state=start,
            drafter=self._drafter,
            order=_order(settings),
            end_ids=self._tokenizer.end_ids,
            max_tokens=settings.max_tokens,
            window=moving(settings.block - 1, max(settings.block - 1, WIDEST)),
            interrupt=clock,
        ):
            clock.stepped()
            tally.add(step)
            new = characters.decode(b"".join(self._tokenizer.pieces[token] or b"" for token in step.ids))
            text += new
            closed = self._closed(gap, start.text, text, max(len(text) - len(new) - len(needle), 0), needle)
            if closed < 0 and not step.stop:
                yield Chunk(new, step)
                continue
            finish = "closed" if closed >= 0 else str(step.stop)
            kept, reason = self._settle(gap, start.text, text, None if closed < 0 else closed)
            yield Chunk(
                new,
                step,
                Completion(
                    text=kept,
                    valid=refusal(gap.filled(kept)) is None,
                    finish_reason=finish,
                    reason=_and(reason, "the prompt was cut to the text nearest the gap" if prompt.cut else None),
                    **tally.counts(),
                    prompt_tokens=len(prompt.ids),
                    ms_first=clock.ms_first,
                    ms_total=clock.ms_total,
                    tokens_per_second=clock.rate(tally.tokens - tally.first),
                    model=self.name,
                    device=self.device,
                    problems=self._validator.problems(start.text),
                ),
            )
            return

    def _closed(self, gap: Gap, start: Any, text: str, begin: int, needle: str) -> int:
        """Where `text` begins to repeat the suffix, from `begin` on; -1 if it does not.

        A place where the file would not parse is none: `)` may repeat the suffix, or close a bracket of the text.
        """
        at = text.find(needle, begin) if needle else -1
        while at >= 0 and not self._parses(gap, start, text[:at]):
            at = text.find(needle, at + 1)
        return at

    def _parses(self, gap: Gap, start: Any, candidate: str) -> bool:
        """Does the file parse with `candidate` in the gap? A broken file: is it no more broken than it was?"""
        problems = self._validator.problems(start)
        verdict = self._validator.check(start, candidate)
        if verdict.accepted < len(candidate):
            return False
        if problems:
            again = self._validator.start(gap.prefix + candidate, gap.suffix)
            return len(self._validator.problems(again)) <= len(problems)
        return self._validator.complete(verdict.state) and refusal(gap.filled(candidate)) is None

    def _settle(self, gap: Gap, start: Any, text: str, closed: int | None) -> tuple[str, str | None]:
        """What of `text` is kept, and what there is to say about it."""
        problems = self._validator.problems(start)

        def parses(candidate: str) -> bool:
            return self._parses(gap, start, candidate)

        kept = gaps.settle(text, gap.suffix, closed, parses)
        if kept is None:
            ended = text + (self._validator.closing(self._validator.check(start, text).state) or "")
            kept = ended if ended.strip() and parses(ended) else ""
        broken = [
            f"the file is broken {p.side} of the gap, at {':'.join(map(str, gap.place(p)))}: {p.reason}"
            for p in problems[:1]
        ]
        nothing = [] if kept else ["nothing that the model wrote parses in its place"]
        return kept, "; ".join(broken + nothing) or None


def _order(settings: Settings) -> Order:
    return Sampled(settings.temperature, settings.top_p, settings.seed) if settings.temperature > 0 else Greedy()


def _and(*parts: str | None) -> str | None:
    return "; ".join(part for part in parts if part) or None

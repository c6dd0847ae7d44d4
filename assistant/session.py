"""A model, a validator, an adapter and drafters (`assistant.drafting`), named here and joined to fill gaps."""

from __future__ import annotations

import codecs
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, get_args

import model
from assistant import prompt as prompts
from assistant import store, tries
from assistant.completion import Completion, Request, remarks
from assistant.counts import Clock, Tally
from assistant.drafting import BOLDNESS, drafters
from assistant.ending import End, Ending, EndsAnywhere, joinable
from assistant.errors import ViableError
from assistant.judge import refusal
from assistant.settings import Settings
from assistant.tries import Likelihood, Try
from model import companions, gpu
from model.engine import (
    ASKED,
    Accept,
    Drafter,
    Fixed,
    Forced,
    Greedy,
    Interrupt,
    NoDraft,
    Order,
    Sampled,
    Scorer,
    Step,
    Window,
    never,
    nothing_forced,
    trusting,
    turns,
    verified,
)
from model.engine.choose import gains_together, scorers_for
from model.lora import Switch
from validators import AcceptAll, PythonValidator, TokenValidator
from validators.contracts import Unit, Validator

log = logging.getLogger(__name__)

TOGETHER = 8
"""Requests that share their passes, where that is quicker and nobody says how many. Each takes 24 kB of memory for a
token of its prompt and answer, with the default model: the rows and states that are cached. Prompts gain nothing."""

CLOSING_MS = 50
"""Milliseconds of a limit that are kept for closing the text, but no more than a tenth of it."""

_ACCEPT: dict[str, Accept] = {"verified": verified, "syntax": trusting}
_UNITS: dict[str, Unit] = {unit: unit for unit in get_args(Unit)}


@dataclass(frozen=True)
class Chunk:
    """What one pass added, as it happens."""

    text: str
    """New characters of the answer; empty while a character is unfinished. The completion may keep fewer. Of several
    tries, all of the chosen one's in the last chunk: what was shown is not taken back for another answer."""
    step: Step[Any]
    completion: Completion | None = None
    """With the last chunk: what is to be inserted."""
    written: str = ""
    """New characters of the try that is being written."""
    number: int = 1
    """Which one that is."""


def open_session(settings: Settings) -> Session:
    """Find, load and join what the settings name."""
    return open_sessions(settings, 1)[0]


def open_sessions(settings: Settings, count: int = 0) -> list[Session]:
    """The same for `count` requests at a time, whose `turns` share their passes; 0 takes as many as are quick here.

    One thread may ask them all, in turn. What a session answers does not depend on what the others do, or how many
    there are.
    """
    found = store.resolve(settings.model, offline=settings.offline)
    try:
        with model.held(found.path):
            decoder = model.load(found.path, device=_device(settings.device), dtype=settings.dtype)
            tokenizer = model.load_tokenizer(found.path)
            switch = companions.attach_adapter(decoder, found.path, found.sha256 if settings.adapter else None)
            capacity = min(settings.context, decoder.config.context_length)
            scorers = scorers_for(decoder, capacity, count or _at_once(settings, decoder), switch)
            drafting = drafters(settings, found, decoder, [scorer for scorer, _ in scorers], capacity)
    except model.ModelError as error:
        raise ViableError(str(error)) from error
    validator = PythonValidator()
    return [
        Session(
            settings,
            found.name,
            str(decoder.device),
            scorer,
            tokenizer,
            validator,
            drafter,
            adapter,
        )
        for (scorer, adapter), drafter in zip(scorers, drafting, strict=True)
    ]


def _at_once(settings: Settings, decoder: model.Decoder) -> int:
    """How many requests share their passes. Where time is limited, a request has the processor to itself."""
    return TOGETHER if gains_together(decoder) and not settings.max_ms else 1


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
        self._ends_anywhere = EndsAnywhere(validator, tokenizer.pieces)
        self._drafter = drafter
        self._adapter = adapter
        # Written token by token, a text is what drafts and what is forced are held to.
        self._forced = nothing_forced if settings.draft == "none" else self._tokens.forced
        self._lock = threading.Lock()

    def undrafted(self) -> Session:
        """The same token by token. It shares what decodes, so that only one of the two may be asked at a time."""
        return Session(
            self.settings.replaced(block=1, draft="none"),
            self.name,
            self.device,
            self._scorer,
            self._tokenizer,
            self._validator,
            NoDraft(),
            self._adapter,
        )

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
        return (chunk for chunk in self._served(request, interrupt) if chunk.step is not ASKED)

    def turns(self, request: Request) -> Generator[None, None, Completion]:
        """The same as `complete` for one of several sessions: yields where others had better go on before this one."""
        for chunk in self._served(request, never):
            if chunk.step is ASKED:
                yield
            elif chunk.completion:
                return chunk.completion
        raise AssertionError("a request ends with its completion")

    def _served(self, request: Request, interrupt: Interrupt) -> Iterator[Chunk]:
        settings = request.settings(self.settings)
        settings.check_room(self.capacity)
        with self._lock:
            prompt = prompts.build(
                self._tokenizer,
                request.gap.prefix,
                request.gap.suffix,
                self.capacity - settings.max_tokens,
                request.beside() if settings.context_files else prompts.ALONE,
                settings.context_files,
            )
            # The adapter was taught to fill gaps and nothing else. What was cached with it is not used without it: a
            # prompt that asks for a gap begins with another token than one that does not.
            with self._adapter.set(prompt.gap):
                yield from self._stream(request, prompt, settings, interrupt)

    def _stream(
        self, request: Request, prompt: prompts.Prompt, settings: Settings, interrupt: Interrupt
    ) -> Iterator[Chunk]:
        gap = request.gap
        clock = Clock(settings.max_ms - min(CLOSING_MS, settings.max_ms // 10), interrupt)
        start = self._tokens.start(gap.prefix, gap.suffix)
        tally = Tally()
        best: list[Try] = []
        faults = cache(lambda text: tries.faults(gap.filled(text)))
        for each in tries.drawn(settings):
            last, tried = yield from self._try(request, prompt, start, each, clock, tally)
            broken_off = tried.finish_reason in tries.BROKEN_OFF
            if not (broken_off and best):
                best = [tries.choose([*best, tried], faults)]
                tally.tries += 1
            if broken_off or tally.tries == settings.tries:
                break
            yield last
        (found,) = best
        problems = self._validator.problems(start.text)
        completion = Completion(
            text=found.text,
            closing=found.closing,
            valid=found.valid,
            finish_reason=found.finish_reason,
            reason=remarks(gap, problems, found.text, prompt.cut),
            prompt_tokens=len(prompt.ids),
            answer_tokens=found.written_tokens,
            problems=problems,
            **self._cost(tally, clock),
        )
        yield replace(last, text=found.written if settings.tries > 1 else last.text, completion=completion)

    def _try(
        self, request: Request, prompt: prompts.Prompt, start: Any, settings: Settings, clock: Clock, tally: Tally
    ) -> Generator[Chunk, None, tuple[Chunk, Try]]:
        """Write one answer. Gives its last chunk, which is not yielded, and what came of it."""
        gap = request.gap
        ending = Ending(self._validator, gap, start.text, _UNITS.get(settings.unit))
        likelihood = Likelihood()
        begin = tally.tokens
        joins = joinable(self._validator, start.text)
        # Where a text may end anywhere, there is always a choice.
        tokens, forced = (self._tokens, self._forced) if joins else (self._ends_anywhere, nothing_forced)
        for step, new in self._steps(prompt, tokens, start, settings, clock, forced):
            if step is ASKED:
                yield Chunk("", step)
                continue
            tally.add(step)
            written = "".join(new)
            chunk = Chunk(written, step, written=written, number=tally.tries + 1)
            if settings.tries > 1:
                chunk = replace(chunk, text="")
                likelihood.add(new, step.log_probabilities())
            end = ending.grown(new, (step.states[-1] if step.states else start).text) or _over(request, ending.text)
            if not (end or step.stop):
                yield chunk
                continue
            kept = ending.settled(
                end,
                lambda n, more: n + len(self._tokenizer.encode(more)) <= settings.max_tokens,
                taught=self._adapter.adapts or not prompt.gap,
                ended=step.stop == "end",
            )
            text = kept.text + kept.closing
            whole = step.stop == "end" and not end
            told, count = likelihood.whole() if whole else likelihood.first(end.shown if end else len(kept.text))
            return chunk, Try(
                text=text,
                closing=kept.closing,
                valid=refusal(gap.filled(text)) is None,
                finish_reason=end.reason if end else str(step.stop),
                written=ending.text,
                written_tokens=tally.tokens - begin,
                log_probability=told,
                tokens=count,
            )
        raise AssertionError("steps end with a reason to stop")

    def plain(self, text: str, over: Callable[[str], bool], seed: int | None = None) -> Completion:
        """What the model alone writes behind `text`, until it ends, `over` what it wrote holds, or the budget is used.

        No validator, nothing cut: to compare with.
        """
        settings = self.settings.replaced(seed=seed)
        clock = Clock(settings.max_ms, never)
        tokens = TokenValidator(AcceptAll(), self._tokenizer.pieces)
        tally, written, finish = Tally(tries=1), "", ""
        with self._lock, self._adapter.set(False):
            prompt = prompts.build(self._tokenizer, text, "", self.capacity - settings.max_tokens)
            for step, new in self._steps(prompt, tokens, tokens.start(text), settings, clock):
                if step is ASKED:
                    continue
                tally.add(step)
                written += "".join(new)
                finish = step.stop or ("closed" if over(written) else "")
                if finish:
                    break
        return Completion(
            text=written,
            valid=refusal(text + written) is None,
            finish_reason=finish,
            reason=None,
            prompt_tokens=len(prompt.ids),
            answer_tokens=tally.tokens,
            **self._cost(tally, clock),
        )

    def _steps(
        self,
        prompt: prompts.Prompt,
        validator: TokenValidator[Any],
        start: Any,
        settings: Settings,
        clock: Clock,
        forced: Forced[Any] = nothing_forced,
    ) -> Iterator[tuple[Step[Any], list[str]]]:
        """The passes, and the characters that each new token finishes; before each pass, `ASKED`."""
        characters = codecs.getincrementaldecoder("utf-8")("replace")
        for step in turns(
            prompt.ids,
            scorer=self._scorer,
            validator=validator,
            state=start,
            drafter=self._drafter,
            order=_order(settings),
            end_ids=self._tokenizer.end_ids,
            max_tokens=settings.max_tokens,
            window=_window(settings, self.device),
            accept=_ACCEPT[settings.accept],
            forced=forced,
            interrupt=clock,
        ):
            if step is not ASKED:
                clock.stepped()
            yield step, [characters.decode(self._tokenizer.pieces[token] or b"") for token in step.ids]

    def _cost(self, tally: Tally, clock: Clock) -> dict[str, Any]:
        """The fields of a completion that say what it took."""
        return {
            **tally.counts(),
            "ms_first": clock.ms_first,
            "ms_total": clock.ms_total,
            "tokens_per_second": clock.rate(tally.tokens - tally.first),
            "model": self.name,
            "device": self.device,
        }


def _window(settings: Settings, device: str) -> Window:
    """How much is drafted. What nobody looks at again is no more than a block."""
    if settings.accept == "syntax":
        return Fixed(settings.block - 1)
    return BOLDNESS[device.partition(":")[0]].window(settings.block)


def _over(request: Request, written: str) -> End | None:
    """Whether the answer is over for the caller."""
    at = request.over(written)
    return None if at is None else End("unit", at, at)


def _order(settings: Settings) -> Order:
    return Sampled(settings.temperature, settings.top_p, settings.seed) if settings.temperature > 0 else Greedy()

"""The thread that owns the session, and how the event loop asks it.

One gap is filled at a time, and the newest request wins: it stops the decoder, which looks at its flag before every
pass and within, and whoever waited for the older gap is answered at once. Requests for the same gap, or for one that
the running suggestion reaches by itself, share one job. `Worker`'s public methods belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from assistant.beside import Surroundings, nothing
from assistant.document import Gap, with_line_end
from assistant.errors import ViableError
from assistant.judge import refusal

if TYPE_CHECKING:  # these import torch, which must not keep `initialize` waiting
    from assistant.completion import Completion, Request

log = logging.getLogger(__name__)

State = Literal["loading", "ready", "failed", "closed"]
Halt = Callable[[], Literal["time"] | None]

TRIES = 2
"""Samples that may be drawn beyond the number of candidates asked for, as some come out equal."""
TEMPERATURE, TOP_P = 0.7, 0.95
"""Of the samples after the first candidate, which is the greedy one."""


class _Abandoned(Exception):
    """Nobody waits any more. Raised within the session, so that it does not settle what was written so far."""


class Written(Protocol):
    """What a session yields."""

    @property
    def text(self) -> str: ...
    @property
    def completion(self) -> Completion | None: ...


class Fills(Protocol):
    """A session, as far as the editor needs it."""

    def stream(self, request: Request, interrupt: Halt) -> Iterator[Written]: ...


@dataclass(frozen=True)
class Wanted:
    """A gap to fill and how."""

    uri: str
    gap: Gap
    candidates: int = 1
    max_tokens: int = 64
    max_ms: int = 0
    """Counted from the first token; 0 means no limit."""
    beside: Callable[[], Surroundings] = nothing
    """Says, in the worker's thread, what other files tell."""


@dataclass
class Tally:
    """What the worker did. Read by anyone, written by its thread alone."""

    filled: int = 0
    stopped: int = 0
    withheld: int = 0
    """Texts that did not parse in their place and were not handed out."""
    faults: int = 0
    passes: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    """Of the last gap."""
    stop_ms: float = 0.0
    """From raising the last stopped job's flag to the decoder's end."""
    stop_ms_most: float = 0.0


@dataclass(eq=False)
class Job:
    """One gap being filled, for all requests that wait for it."""

    wanted: Wanted
    future: asyncio.Future[tuple[str, ...] | None]
    """Texts, best first; None where the job was given up."""
    waiting: int = 0
    text: str = ""
    """Written so far, for the first candidate. The thread replaces it, the loop reads it."""
    stopped_at: float | None = None
    """When the flag was raised, in seconds of time.perf_counter; None while it is down."""
    partial: Callable[[str], None] | None = None
    """Takes, on the event loop, the lines written so far."""

    def stop(self) -> None:
        """Have the decoder stop, and answer all who wait with nothing."""
        if self.stopped_at is None:
            self.stopped_at = time.perf_counter()
        if not self.future.done():
            self.future.set_result(None)

    def reaches(self, wanted: Wanted) -> str | None:
        """What was typed since the job began, if the job's text goes on from there; None if it does not."""
        mine = self.wanted
        if self.stopped_at is not None or self.future.done() or wanted.candidates > mine.candidates:
            return None
        if (
            wanted.uri != mine.uri
            or wanted.gap.right != mine.gap.right
            or not wanted.gap.left.startswith(mine.gap.left)
        ):
            return None
        typed = with_line_end(wanted.gap.left[len(mine.gap.left) :], "\n")
        return typed if not typed or (len(self.text) > len(typed) and self.text.startswith(typed)) else None

    def survives(self, text: str) -> bool:
        """Whether a file with this text may still want what is being written: nothing but its beginning was typed."""
        left, right = self.wanted.gap.left, self.wanted.gap.right
        if len(text) < len(left) + len(right) or not (text.startswith(left) and text.endswith(right)):
            return False
        return self.text.startswith(with_line_end(text[len(left) : len(text) - len(right)], "\n"))


class Worker:
    """Loads a session and fills gaps with it, in a thread."""

    def __init__(self, on_state: Callable[[State, str], None]) -> None:
        """`on_state` is called on the event loop with the new state and one line for people."""
        self.state: State = "loading"
        self.tally = Tally()
        self.on_texts: Callable[[Wanted, tuple[str, ...]], None] = lambda wanted, texts: None
        """Called on the event loop with what was written, before anybody who waits for it goes on."""
        self._on_state = on_state
        self._loop: asyncio.AbstractEventLoop
        self._changed = threading.Condition()
        self._pending: Job | None = None
        self._running: Job | None = None
        self._generation = 0
        self._thread: threading.Thread | None = None

    def start(self, open_session: Callable[[], Fills]) -> None:
        """Begin to load. Requests that came before wait; an older session is given up as soon as it stands still."""
        self._loop = asyncio.get_running_loop()
        if self._running:
            self._running.stop()
        before = self._thread
        with self._changed:
            self._generation += 1
            self.state = "loading"
            self._changed.notify_all()
        self._thread = threading.Thread(
            target=self._work, args=(self._generation, open_session, before), name="viable-session", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop decoding and end the thread, without waiting for it."""
        self.give_up()
        with self._changed:
            self._generation += 1
            self.state = "closed"
            self._changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the thread's end; whether it came."""
        if self._thread:
            self._thread.join(seconds)
        return not (self._thread and self._thread.is_alive())

    @property
    def idle(self) -> bool:
        """Whether nothing is being filled."""
        return all(job.future.done() for job in self._jobs())

    @property
    def writing(self) -> int:
        """Characters written so far for the gap that is being filled."""
        return len(self._running.text) if self._running else 0

    async def fill(self, wanted: Wanted, partial: Callable[[str], None] | None = None) -> tuple[str, ...]:
        """Texts for a gap, best first. None at all when a newer request takes over or there is no session.

        Cancelling the caller stops the decoder, unless another request waits for the same text.
        """
        job = self.find(wanted) or self.submit(wanted, partial)
        typed = job.reaches(wanted) or ""
        job.waiting += 1
        try:
            texts = await asyncio.shield(job.future)
        finally:
            job.waiting -= 1
            if not job.waiting and not job.future.done():
                job.stop()
        return tuple(text[len(typed) :] for text in texts or () if text.startswith(typed) and text != typed)

    def find(self, wanted: Wanted) -> Job | None:
        """A job under way that will have the text."""
        return next((job for job in self._jobs() if job.reaches(wanted) is not None), None)

    def submit(self, wanted: Wanted, partial: Callable[[str], None] | None = None) -> Job:
        """Start on a gap, whatever else was under way."""
        self.give_up()
        job = Job(wanted, asyncio.get_running_loop().create_future(), partial=partial)
        if self.state not in ("loading", "ready"):
            job.stop()
            return job
        with self._changed:
            self._pending = job
            self._changed.notify_all()
        return job

    def edited(self, uri: str, text: Callable[[], str]) -> None:
        """Give up what an edit has made useless; `text` gives the file's."""
        for job in self._jobs():
            if job.wanted.uri == uri and not job.survives(text()):
                job.stop()

    def closed(self, uri: str) -> None:
        """Give up what was for a file that is closed."""
        for job in self._jobs():
            if job.wanted.uri == uri:
                job.stop()

    def give_up(self) -> None:
        """Stop what is under way; who waits for it is answered with nothing."""
        for job in self._jobs():
            job.stop()

    def _jobs(self) -> list[Job]:
        return [job for job in (self._pending, self._running) if job]

    def _work(self, generation: int, open_session: Callable[[], Fills], before: threading.Thread | None) -> None:
        if before:
            before.join()  # two models at once might not fit
        if self._generation != generation:
            return  # nobody wants this one any more: another was asked for meanwhile, or the end
        begin = time.perf_counter()
        try:
            session = open_session()
        except ViableError as error:
            self._say(generation, "failed", str(error))
            return
        except Exception as error:  # a fault of ours must reach the user as one line, not as a silent editor
            log.exception("the session could not be opened")
            self._say(generation, "failed", f"{type(error).__name__}: {error}")
            return
        self._say(generation, "ready", f"model ready after {time.perf_counter() - begin:.1f} s")
        while job := self._take(generation):
            texts = self._serve(session, job)
            self._on_loop(self._finish, job, texts)

    def _take(self, generation: int) -> Job | None:
        """The next job; None when the thread is to end."""
        with self._changed:
            self._running = None
            while self._generation == generation and self._pending is None:
                self._changed.wait()
            if self._generation != generation:
                return None
            self._running, self._pending = self._pending, None
            return self._running

    def _serve(self, session: Fills, job: Job) -> tuple[str, ...] | None:
        if job.stopped_at is not None:
            return None
        try:
            texts = tuple(self._candidates(session, job))
        except _Abandoned:
            texts = ()
        except ViableError as error:
            log.warning("%s", error)
            return ()
        except Exception as error:  # one request that fails must not end the service
            log.exception("a request failed: %s: %s", type(error).__name__, error)
            self.tally.faults += 1
            return ()
        if job.stopped_at is not None:
            self.tally.stopped += 1
            self.tally.stop_ms = 1000 * (time.perf_counter() - job.stopped_at)
            self.tally.stop_ms_most = max(self.tally.stop_ms_most, self.tally.stop_ms)
            return None
        self.tally.filled += 1
        return texts

    def _candidates(self, session: Fills, job: Job) -> Iterator[str]:
        """Distinct texts that parse in their place: the greedy one, then samples."""
        from assistant.completion import Request

        wanted = job.wanted
        seen: set[str] = set()
        tries = wanted.candidates if wanted.candidates == 1 else wanted.candidates + TRIES
        begin = time.perf_counter()
        for seed in range(tries):
            if len(seen) == wanted.candidates or _late(begin, wanted.max_ms if seed else 0):
                return
            request = Request(
                wanted.gap,
                max_tokens=wanted.max_tokens,
                temperature=TEMPERATURE if seed else 0.0,
                top_p=TOP_P if seed else 1.0,
                seed=seed,
                tries=1 if seed else None,
                beside=wanted.beside,
            )
            completion = self._complete(session, request, job, first=seed == 0)
            if job.stopped_at is not None or completion is None:
                return
            if completion.text and not (completion.valid or completion.problems):
                self.tally.withheld += 1
                log.error("withheld a suggestion that does not parse: %s", completion.reason)
            elif completion.text and (text := _tidied(wanted.gap, completion.text)) not in seen:
                seen.add(text)
                yield text

    def _complete(self, session: Fills, request: Request, job: Job, first: bool) -> Completion | None:
        deadline = float("inf")

        def halt() -> Literal["time"] | None:
            if job.stopped_at is not None:
                raise _Abandoned
            return "time" if time.perf_counter() > deadline else None

        for chunk in session.stream(request, halt):
            if deadline == float("inf") and job.wanted.max_ms:
                deadline = time.perf_counter() + job.wanted.max_ms / 1000
            if first:
                job.text += chunk.text
                if job.partial and "\n" in chunk.text:
                    self._pass_on(job)
            if chunk.completion:
                self.tally.passes += chunk.completion.passes
                self.tally.tokens += chunk.completion.tokens
                self.tally.prompt_tokens = chunk.completion.prompt_tokens
                return chunk.completion
        return None

    def _pass_on(self, job: Job) -> None:
        """Show the lines written so far, where the file parses with them."""
        lines = job.text[: job.text.rfind("\n")]
        if job.partial and lines.strip() and refusal(job.wanted.gap.filled(lines)) is None:
            self._on_loop(job.partial, lines)

    def _finish(self, job: Job, texts: tuple[str, ...] | None) -> None:
        if not job.future.done():
            self.on_texts(job.wanted, texts or ())
            job.future.set_result(texts)

    def _say(self, generation: int, state: State, message: str) -> None:
        self._on_loop(self._enter, generation, state, message)

    def _enter(self, generation: int, state: State, message: str) -> None:
        if generation != self._generation:
            return
        self.state = state
        if state == "failed":
            self.give_up()
        self._on_state(state, message)

    def _on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            log.debug("the event loop has ended")


def _tidied(gap: Gap, text: str) -> str:
    """Without the blanks and empty lines at its end, where the file has a line end there anyway."""
    bare = text.rstrip()
    same = bare == text or not gap.suffix.startswith("\n")
    return text if same or refusal(gap.filled(bare)) is not None else bare


def _late(begin: float, max_ms: int) -> bool:
    return bool(max_ms) and time.perf_counter() - begin > max_ms / 1000

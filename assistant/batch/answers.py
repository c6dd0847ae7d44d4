"""Lines of the output."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from assistant.batch.keys import Job
from assistant.completion import Completion
from assistant.document import Gap


class Failure(msgspec.Struct, frozen=True):
    """Why a row has no completion."""

    type: str
    """`BadRow`: it cannot be read or asks for what is not served. `NoCompletion`: nothing valid was found. Otherwise
    the name of what went wrong while it was answered."""
    message: str


class Filled(msgspec.Struct, frozen=True):
    """What a file is once its completion is in it: then it has no mark any more, and is known by this."""

    start: int
    """Where the completion begins, in characters of the file."""
    stop: int
    """Where it ends."""
    sha256: str
    """Of the whole file."""

    @staticmethod
    def of(gap: Gap, completion: str) -> Filled:
        """The file that `completion` makes of a gap."""
        whole = gap.filled(completion)
        return Filled(len(gap.left), len(whole) - len(gap.right), text_hash(whole))

    def gap(self, text: str) -> Gap | None:
        """The gap that was filled, if `text` is this very file; else None."""
        return Gap(text[: self.start], text[self.stop :]) if text_hash(text) == self.sha256 else None


def text_hash(text: str) -> str:
    """The sha256 of a file's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. `task_id` and `completion` are what HumanEval's and evalplus' scorers read."""

    task_id: str | int
    sample: int
    completion: str
    finish_reason: str | None = None
    valid: bool = False
    reason: str | None = None
    tries: int = 1
    tokens: int = 0
    passes: int = 0
    drafted: int = 0
    accepted: int = 0
    fallbacks: int = 0
    avoided: int = 0
    prompt_tokens: int = 0
    ms: float = 0.0
    seed: int | None = None
    error: Failure | None = None
    filled: Filled | msgspec.UnsetType = msgspec.UNSET
    """Of a file that has a completion."""
    key: str


class Choice(msgspec.Struct, frozen=True):
    index: int
    text: str
    finish_reason: str
    logprobs: None = None


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Body(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Response(msgspec.Struct, frozen=True):
    status_code: int
    request_id: str
    body: Body | None


class OpenAIError(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: None = None
    code: int | None = None


class Extra(msgspec.Struct, frozen=True):
    """What is known beyond OpenAI's response."""

    key: str
    answers: list[Answer]


class OpenAIAnswer(msgspec.Struct, frozen=True):
    """One response of an OpenAI batch, as vLLM's `run-batch` writes it."""

    id: str
    custom_id: str | int
    response: Response
    error: OpenAIError | None
    viable: Extra


Line = Answer | OpenAIAnswer


def completed(job: Job, sample: int, seed: int, completion: Completion) -> Answer:
    """The answer that a completion is."""
    error = None
    if not completion.text:
        error = Failure("NoCompletion", completion.reason or completion.finish_reason)
    return Answer(
        task_id=job.task.name,
        sample=sample,
        completion=completion.text,
        finish_reason=completion.finish_reason,
        valid=completion.valid,
        reason=completion.reason,
        tries=completion.tries,
        tokens=completion.tokens,
        passes=completion.passes,
        drafted=completion.drafted,
        accepted=completion.accepted,
        fallbacks=completion.fallbacks,
        avoided=completion.avoided,
        prompt_tokens=completion.prompt_tokens,
        ms=completion.ms_total,
        seed=seed,
        error=error,
        filled=_filled(job, completion.text),
        key=job.key,
    )


def _filled(job: Job, text: str) -> Filled | msgspec.UnsetType:
    task = job.task
    return Filled.of(task.gap, text) if task.kind == "file" and task.gap and text else msgspec.UNSET


def failed(job: Job, sample: int, failure: Failure) -> Answer:
    """The answer to what could not be answered."""
    return Answer(task_id=job.task.name, sample=sample, completion="", error=failure, key=job.key)


def line_of(job: Job, answers: Sequence[Answer], model: str, created: int) -> Line:
    """The line that a job becomes. `created` is in seconds since 1970."""
    if job.task.kind != "openai":
        return answers[0]
    failures = [answer.error for answer in answers if answer.error and answer.error.type != "NoCompletion"]
    status, body, error = 200, None, None
    if failures:
        status = 400 if failures[0].type == "BadRow" else 500
        kind = "invalid_request_error" if status == 400 else "internal_error"
        error = OpenAIError(failures[0].message, kind, code=status)
    else:
        prompt, new = max(a.prompt_tokens for a in answers), sum(a.tokens for a in answers)
        body = Body(
            id=f"cmpl-{job.key}",
            created=created,
            model=model,
            choices=[Choice(a.sample, a.completion, _finish(a.finish_reason)) for a in answers],
            usage=Usage(prompt, new, prompt + new),
        )
    response = Response(status, f"request-{job.key}", body)
    return OpenAIAnswer(f"viable-{job.key}", job.task.name, response, error, Extra(job.key, list(answers)))


def answers_of(line: Line) -> Sequence[Answer]:
    """The answers in a line."""
    return line.viable.answers if isinstance(line, OpenAIAnswer) else (line,)


def is_failed(line: Line) -> bool:
    """Whether a line counts as failed: it has an error, or one of its choices has."""
    return any(answer.error for answer in answers_of(line))


def _finish(reason: str | None) -> str:
    """In OpenAI's words."""
    return "stop" if reason in ("end", "closed", "dead end") else "length"


def read_line(data: bytes) -> Line | None:
    """A line of an earlier run; None for anything else."""
    try:
        return msgspec.json.decode(data, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return msgspec.json.decode(data, type=OpenAIAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def key_of(line: Line) -> str:
    return line.viable.key if isinstance(line, OpenAIAnswer) else line.key

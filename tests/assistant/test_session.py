"""A session joined from a tiny random model, the real validator and the real drafter."""

from __future__ import annotations

import ast
import random
import threading
from pathlib import Path

import pytest

from assistant.beside import Excerpt, Surroundings
from assistant.completion import Cancel, Completion, Request
from assistant.document import Gap
from assistant.errors import UsageProblem, ViableError
from assistant.judge import refusal
from assistant.session import Session, open_session
from assistant.settings import Settings
from tests.assistant.scripted import scripted
from tests.tiny import write_tiny_gguf
from validators import ReferenceValidator

SOURCE = '''def mean(values, default=0):
\t"""The mean of some values."""
\tif not values:
\t\treturn default
\ttotal = sum(value for value in values)
\treturn total / len(values)


print(mean([1, 2, 3]), f"{mean([]):>{4}}")
'''


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    path = write_tiny_gguf(tmp_path_factory.mktemp("model"))
    return Settings(model=str(path), device="cpu", max_tokens=6, context=256)


@pytest.fixture(scope="module")
def session(settings: Settings) -> Session:
    return open_session(settings)


def gaps(count: int, source: str = SOURCE) -> list[Gap]:
    """Gaps of a valid file: anything between two places is taken out."""
    chance = random.Random(1)
    places = [sorted((chance.randrange(len(source)), chance.randrange(len(source)))) for _ in range(count)]
    return [Gap(source[:a], source[b:]) for a, b in places]


def problems(gap: Gap, text: str = "") -> int:
    """How broken a file is, by the slow twin."""
    validator = ReferenceValidator()
    return len(validator.problems(validator.start(gap.prefix + text, gap.suffix)))


def test_auto_takes_the_processor_where_no_gpu_can_be_used(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("model.gpu.problem", lambda: "Triton 2.0 is too old")
    with caplog.at_level("INFO"):
        taken = open_session(settings.replaced(device="auto"))
    assert taken.complete(Request(Gap("x = ", "\n"))).device == "cpu"
    assert "computing on cpu (device: auto)" in caplog.text
    with pytest.raises(ViableError, match=r"^Triton 2\.0 is too old; --device cpu or auto computes on the processor$"):
        open_session(settings.replaced(device="cuda"))


def test_other_files_are_asked_for_where_there_is_room(session: Session) -> None:
    asked: list[int] = []

    def beside() -> Surroundings:
        asked.append(1)
        return Surroundings("shop", "new.py", (Excerpt("shop.py", ("def count(goods): ...",)),))

    gap = Gap("x = ", "\n")
    plain = session.complete(Request(gap, beside=beside))
    assert not asked
    told = session.complete(Request(gap, context_files=100, beside=beside))
    assert len(asked) == 1
    assert 20 < told.prompt_tokens - plain.prompt_tokens <= 100
    assert session.complete(Request(gap)).text == plain.text, "nothing of it stays"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_is_given_out_parses_in_its_place(session: Session, end: str) -> None:
    given = 0
    for gap in gaps(5, SOURCE.replace("\n", end)):
        completion = session.complete(Request(gap))
        if completion.text and not completion.problems:
            given += 1
            assert completion.valid
            ast.parse(gap.filled(completion.text))
        assert completion.valid == (refusal(gap.filled(completion.text)) is None)
        assert completion.text or completion.reason, "an empty answer does not say why"
        assert completion.tokens <= 6
        assert completion.accepted <= completion.drafted
        assert completion.fallbacks <= completion.passes
        assert "\r" not in completion.text
    assert given, "no gap was filled, so nothing was shown"


def test_a_broken_file_is_not_made_worse(session: Session) -> None:
    for left, right in (("x = = 1\ny = ", "\n"), ("y = ", "\n= = 3\n"), ("def f(:\n\tpass\n", "\nx = 1\n")):
        gap = Gap(left, right)
        completion = session.complete(Request(gap))
        assert completion.problems
        assert completion.reason is not None
        assert "the file is broken" in completion.reason
        assert problems(gap, completion.text) <= problems(gap)


def test_blocks_change_the_passes_and_not_the_text(session: Session, settings: Settings) -> None:
    single = open_session(settings.replaced(block=1))
    for temperature in (0.0, 0.8):
        for gap in gaps(2):
            one, three = (s.complete(Request(gap, temperature=temperature)) for s in (single, session))
            assert (one.text, one.tokens, one.finish_reason) == (three.text, three.tokens, three.finish_reason)
            assert one.drafted == 0
            assert three.passes <= one.passes


@pytest.mark.parametrize("script", ["a n", "a is no", "lamb"])
def test_nothing_is_forced_where_a_text_may_end_anywhere(script: str) -> None:
    """Nothing joins this file, so that a model may end it between `n` and `ot` as well, drafted for or not."""
    session = scripted(Gap("x = = 1\ny = ", "\n"), script)
    drafted, plain = (each.complete(Request(Gap("x = = 1\ny = ", "\n"))) for each in (session, session.undrafted()))
    assert (drafted.text, drafted.tokens, drafted.finish_reason) == (plain.text, plain.tokens, plain.finish_reason)
    assert (drafted.tokens, drafted.forced, drafted.finish_reason) == (len(script), 0, "end")


def test_the_same_seed_gives_the_same_text_whatever_came_before(session: Session) -> None:
    request = Request(Gap("x = ", "\n"), temperature=1.0, seed=5)
    session.forget()
    first = session.complete(request).text
    session.complete(Request(gaps(1)[0], temperature=1.0, seed=9))
    session.forget()
    assert session.complete(request).text == first
    assert len({session.complete(Request(request.gap, temperature=1.0, seed=i)).text for i in range(3)}) > 1


def test_a_stream_ends_with_what_complete_gives(session: Session) -> None:
    request = Request(Gap("x = ", "\n"))
    chunks = list(session.stream(request))
    assert [chunk.completion is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    last = chunks[-1].completion
    assert isinstance(last, Completion)
    whole = session.complete(request)
    assert (last.text, last.tokens) == (whole.text, whole.tokens)
    assert "".join(chunk.text for chunk in chunks).startswith(last.text.rstrip(")'\"]}")[:1])


def test_limits_and_the_caller_stop_it(session: Session) -> None:
    gap = Gap("x = '''", "")
    assert session.complete(Request(gap, max_tokens=3)).tokens <= 3
    assert session.complete(Request(gap, max_tokens=200, max_ms=1)).finish_reason == "time"
    cancel = Cancel()
    cancel.set()
    stopped = session.complete(Request(gap), cancel)
    assert (stopped.finish_reason, stopped.tokens) == ("cancelled", 0)
    with pytest.raises(UsageProblem, match="leaves no room for a prompt in a context of 256"):
        session.complete(Request(gap, max_tokens=249))
    with pytest.raises(UsageProblem, match="temperature"):
        session.complete(Request(gap, temperature=-1.0))


def test_a_long_prompt_is_cut_and_said_so(session: Session) -> None:
    long = session.complete(Request(Gap("value = 1\n" * 500 + "x = ", "\n" + "y = 2\n" * 500)))
    assert long.prompt_tokens <= session.capacity - 6
    assert "cut to the text nearest the gap" in str(long.reason)
    assert "cut" not in str(session.complete(Request(Gap("x = ", "\n"))).reason)


def test_two_callers_take_turns(session: Session) -> None:
    request = Request(Gap("x = ", "\n"))
    expected = session.complete(request).text
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(session.complete(request).text)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [expected] * 3


def test_what_cannot_be_opened_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"no model")
    with pytest.raises(ViableError):
        open_session(settings.replaced(model=str(tmp_path / "bad.gguf")))
    with pytest.raises(UsageProblem):
        open_session(settings.replaced(model="no-such-model"))

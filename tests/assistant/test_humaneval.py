"""HumanEval's harness on problems of our own: what passes, what does not, and what a stopped run finds again."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from assistant.completion import Completion, Request
from assistant.document import Gap
from assistant.eval import accepting
from assistant.eval.humaneval import Problem, evaluate, judge, over, read_problems, subset
from assistant.settings import Settings
from model.train.gaps import Cut
from tests.assistant.fake import Shell
from tests.assistant.scripted import scripted

ADD = Problem(
    "own/0",
    'def add(a, b):\n    """The sum."""\n',
    "add",
    "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(0, 0) == 0\n",
)
WAIT = Problem("own/1", 'def wait():\n    """One."""\n', "wait", "def check(candidate):\n    assert candidate() == 1\n")


@dataclass
class Writer:
    """Writes what it was told for a prompt; the raw model runs on."""

    answers: dict[str, str]
    settings: Settings = field(default_factory=Settings)
    name: str = "writer"
    device: str = "cpu"
    asked: list[tuple[str, str]] = field(default_factory=list)
    last: int = 99

    def complete(self, request: Request) -> Completion:
        assert request.unit == "function"
        return self.answer("validated", request.gap.left)

    def plain(self, text: str, over: Callable[[str], bool], seed: int | None) -> Completion:
        return self.answer("raw", text)

    def answer(self, mode: str, prompt: str) -> Completion:
        if len(self.asked) == self.last:
            raise KeyboardInterrupt
        self.asked.append((mode, prompt))
        more = "\n\nprint(add('a', 1))\n" if mode == "raw" else ""
        return Completion(
            text=self.answers[prompt] + more, valid=True, finish_reason="end", reason=None, tokens=10, passes=4,
            drafted=8, accepted=6, fallbacks=1, avoided=0, prompt_tokens=9, ms_first=1.0, ms_total=500.0,
            tokens_per_second=3.0, model="writer", device="cpu",
        )  # fmt: skip


def write(path: Path, *problems: Problem) -> Path:
    rows = [
        {**{name: getattr(each, name) for name in each.__struct_fields__}, "canonical_solution": ""}
        for each in problems
    ]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


@pytest.mark.parametrize(
    ("body", "passes", "says"),
    [
        ("    return a + b\n", True, "passed"),
        ("    return a - b\n", False, "AssertionError"),
        ("    return (\n", False, "SyntaxError"),
        ("    raise SystemExit(0)\n", False, "exit code 0"),
        ("    import os; os._exit(0)\n", False, "exit code 0"),
        ("    return a + b\nprint('viable: every assertion held'); raise SystemExit(1)\n", False, "exit code 1"),
    ],
)
def test_only_a_program_that_holds_every_assertion_passes(body: str, passes: bool, says: str) -> None:
    passed, result = judge(ADD, body)
    assert passed == passes
    assert says in result


def test_a_program_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.eval.humaneval.SECONDS", 0.5)
    passed, result = judge(WAIT, "    while True:\n        pass\n")
    assert not passed
    assert "stopped" in result


def test_scores_count_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    problems = read_problems(write(tmp_path / "own.jsonl.gz", ADD, WAIT))
    assert problems == [ADD, WAIT]
    output = tmp_path / "out.jsonl"
    answers = {ADD.prompt: "    return a + b", WAIT.prompt: "    return 2"}
    stopped = Writer(answers, last=3)
    with pytest.raises(KeyboardInterrupt):
        evaluate(stopped, problems, ["validated", "raw"], 1, output)
    assert len(output.read_text().splitlines()) == 3
    with output.open("ab") as file:
        file.write(b'{"task_id": "own/1", "mo')  # torn by a power cut
    again = Writer(answers)
    done: list[int] = []
    validated, raw = evaluate(again, problems, ["validated", "raw"], 1, output, lambda: done.append(1))
    assert again.asked == [("raw", WAIT.prompt)], "what was there is not asked for again"
    assert len(done) == 4
    assert (validated.pass_at_1, raw.pass_at_1) == (0.5, 0.5), "the raw text is cut where the function is over"
    assert (validated.parses, validated.problems, validated.tokens_per_pass) == (1.0, 2, 2.5)
    other = Writer(answers, settings=Settings(temperature=0.5))
    evaluate(other, problems, ["raw"], 2, output)
    assert len(other.asked) == 4, "other settings are another run"


def test_a_subset_is_spread_and_what_is_no_problem_is_named(tmp_path: Path) -> None:
    problems = [Problem(str(i), "", "", "") for i in range(10)]
    assert [each.task_id for each in subset(problems, 4)] == ["0", "2", "5", "7"]
    assert subset(problems, None) == subset(problems, 99) == problems
    assert over("    return 1\n\ndef other(") and not over("    # a note\n    if x:\n        print(1)")


def test_the_command(viable: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {ADD.prompt: "    return a + b", WAIT.prompt: "    return 2"}
    monkeypatch.setattr("assistant.session.open_session", lambda settings: Writer(answers, settings=settings))
    path = write(tmp_path / "own.jsonl.gz", ADD, WAIT)
    ran = viable("eval", "humaneval", path, "-o", tmp_path / "out.jsonl", "--limit", 2)
    assert ran.code == 0
    figures: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    assert [each["pass_at_1"] for each in figures["humaneval"]] == [0.5, 0.5]
    assert viable("eval", "humaneval", path, "--samples", 2).code == 2
    (tmp_path / "bad.jsonl").write_text('{"task_id": 1}\n')
    ran = viable("eval", "humaneval", tmp_path / "bad.jsonl")
    assert ran.code == 2
    assert "bad.jsonl:1: no HumanEval problem" in ran.error


def test_the_raw_model_is_neither_validated_nor_cut() -> None:
    session = scripted(Gap("def f(:\n", ""), "    return ((\n\ndef g(): pass\n")
    found = session.plain("def f(:\n", over)
    assert found.text.startswith("    return ((\n\ndef ")
    assert (found.finish_reason, found.avoided, found.valid) == ("closed", 0, False)


def test_a_function_ends_where_its_block_does() -> None:
    gap = Gap(ADD.prompt, "")
    session = scripted(gap, "    total = a + b\n    return total\n\n\nprint(add(1, 2))\n")
    found = session.complete(Request(gap, unit="function"))
    assert (found.text, found.finish_reason) == ("    total = a + b\n    return total", "unit")


def test_two_rules_of_acceptance_are_compared() -> None:
    class Session:
        def complete(self, request: Request) -> Completion:
            found = Writer({"x = ": "abcd" if request.accept == "verified" else "abxy"}).answer("", request.gap.left)
            return found

    verified, syntax = accepting.compare(Session(), [Cut("x = ", "abcd", "", "\n", "line end")])
    assert (verified.rule, verified.same, verified.exact, verified.same_characters) == ("verified", 1.0, 1.0, 1.0)
    assert (syntax.rule, syntax.same, syntax.exact, syntax.same_characters) == ("syntax", 0.0, 0.0, 0.5)
    assert len(accepting.table([verified, syntax]).splitlines()) == 3

"""The program as a value, and its moments."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assistant.repl.program import Moment, Program, Timeline

PIECES = st.lists(st.tuples(st.sampled_from(["user", "model"]), st.text("ab \n", max_size=6)), max_size=6)


def built(pieces: list[tuple[str, str]]) -> Program:
    program = Program()
    for author, text in pieces:
        program = program.plus("user" if author == "user" else "model", text)
    return program


@given(PIECES)
def test_lines_hold_the_text_and_who_began_them(pieces: list[tuple[str, str]]) -> None:
    program = built(pieces)
    hands = [author for author, text in pieces for _ in text]
    text = "".join(text for _, text in pieces)
    lines, start = [], 0
    for line in text.split("\n"):
        if start < len(text):
            lines.append((hands[start], line))
        start += len(line) + 1
    assert list(program.lines()) == lines
    assert program.text == text


@given(PIECES)
def test_a_new_line_is_added_once(pieces: list[tuple[str, str]]) -> None:
    program = built(pieces).on_new_line()
    assert program.text == "" or program.text.endswith("\n")
    assert program.on_new_line() == program


@given(st.lists(st.sampled_from(["undo", "redo", "write"]), max_size=30))
def test_a_timeline_is_two_stacks(moves: list[str]) -> None:
    timeline = Timeline()
    done: list[str] = [""]
    undone: list[str] = []
    for number, move in enumerate(moves):
        if move == "write":
            timeline = timeline.record(Moment(Program().plus("user", str(number))))
            done.append(str(number))
            undone = []
        elif move == "undo":
            timeline = timeline.undo()
            if len(done) > 1:
                undone.append(done.pop())
        else:
            timeline = timeline.redo()
            if undone:
                done.append(undone.pop())
        assert timeline.now.program.text == done[-1]

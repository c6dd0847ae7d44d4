"""Rules, automata and the parser whose configurations are values."""

from __future__ import annotations

import pytest

from validators.blocks import root
from validators.costs import Costs
from validators.machine import Machine, Node
from validators.rules import Rules
from validators.words import Words


def after(machine: Machine, node: Node | None, *spellings: str) -> Node | None:
    for spelling in spellings:
        if node is None:
            return None
        node = machine.step(node, machine.terminal(spelling if spelling.isupper() else repr(spelling)))
    return node


@pytest.mark.parametrize("version", [(3, minor) for minor in range(8, 15)])
def test_every_rule_of_every_version_can_be_finished(version: tuple[int, int]) -> None:
    machine = Machine(version)
    costs = Costs(machine)
    for kind in ("line", "decorated", "elif_line", "except_line", "finally_line", "try_else_line"):
        assert costs.of(machine.entry(kind)) < 200


@pytest.mark.parametrize(
    ("rule", "first", "version_in", "version_out"),
    [
        ("line", "'match'", (3, 8), None),  # always a name
        ("except_star_line", "'except'", (3, 11), (3, 10)),
    ],
)
def test_versions_keep_their_alternatives(
    rule: str, first: str, version_in: tuple[int, int], version_out: tuple[int, int] | None
) -> None:
    machine = Machine(version_in)
    assert machine.accepts(machine.entry(rule)) & machine.mask(first)
    if version_out:
        other = Machine(version_out)
        assert not other.accepts(other.entry(rule)) & other.mask(first)


def test_equal_configurations_are_one_object() -> None:
    machine = Machine((3, 12))
    start = machine.entry("line")
    one = after(machine, start, "NAME", "=", "NAME", "+", "NAME")
    other = after(machine, start, "NAME", "=", "NAME", "*", "NUMBER", "-", "NAME")
    assert one is other is not None


def test_a_step_is_worked_out_once_and_brackets_do_not_slow_it() -> None:
    machine = Machine((3, 12))
    node = machine.entry("line")
    sizes = []
    for _ in range(150):
        before = machine.steps_computed
        following = after(machine, node, "(")
        assert following is not None and machine.steps_computed - before <= 1
        node = following
        sizes.append(len(node.items))
    assert max(sizes) <= 6, "the alternatives of outer brackets must not pile up"
    before = machine.steps_computed
    after(machine, machine.entry("line"), *["("] * 150)
    assert machine.steps_computed == before


def test_ambiguity_is_kept_until_it_is_decided() -> None:
    machine = Machine((3, 12))
    subject = after(machine, machine.entry("line"), "match", "(", "NAME", ")")
    assert subject is not None
    assert after(machine, subject, ":", "NEWLINE") is not None  # a match statement
    assert after(machine, subject, ":", "NAME", "NEWLINE") is None  # a call has no annotation
    assert after(machine, subject, ".", "NAME", "=", "NAME", "NEWLINE") is not None  # an attribute of a call


def test_anywhere_is_what_can_follow_some_beginning() -> None:
    machine = Machine((3, 12))
    anywhere = machine.anywhere("line", "decorated")
    assert after(machine, anywhere, ")", "]", ":", "NEWLINE") is not None
    assert after(machine, anywhere, "else", "NAME", "}") is not None
    assert after(machine, anywhere, "NAME", "NAME") is None
    assert after(machine, anywhere, ")", "NUMBER") is None


def test_an_unknown_symbol_of_the_grammar_is_an_error() -> None:
    with pytest.raises(KeyError):
        Rules((3, 12)).start("no_such_rule")


def test_words_know_what_a_beginning_can_become() -> None:
    machine = Machine((3, 12))
    words = Words(machine)
    mask = words.name_mask("f")
    for spelling in ("'for'", "'from'", "'finally'", "FSTRING", "NAME"):
        assert mask & machine.mask(spelling)
    assert not mask & machine.mask("'if'")
    assert words.name_mask("fox") == machine.mask("NAME")
    assert words.number_mask("0x1") == machine.mask("NUMBER")
    assert words.number_mask("1j") == machine.mask("IMAGINARY")


def test_blocks_of_the_same_shape_are_one_object() -> None:
    module = root()
    header = module.after("$if+")
    assert header is not None
    body, _ = header.at(4, 4)
    assert body is header.at(4, 4)[0] and body is not None
    assert header.at(0, 0) == (None, "expected an indented block")
    assert header.at(8, 0)[1].startswith("inconsistent")
    assert body.at(2, 2)[1].startswith("unindent")
    outer, _ = body.at(0, 0)
    assert outer is not None and outer.context == "if" and outer.after("$simple") is module

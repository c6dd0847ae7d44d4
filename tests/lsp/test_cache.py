"""Typed as suggested: what the cache answers, and what it must not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assistant.document import Gap
from assistant.lsp.cache import Cache

URI = "file:///a.py"


def test_what_was_typed_is_taken_off() -> None:
    cache = Cache()
    cache.put(URI, Gap("x", "\n"), ("yz = 1", "y2 = 2", "other"))
    assert cache.get(URI, Gap("x", "\n")) == ("yz = 1", "y2 = 2", "other")
    assert cache.get(URI, Gap("xy", "\n")) == ("z = 1", "2 = 2")
    assert cache.get(URI, Gap("xyz = ", "\n")) == ("1",)
    assert cache.get(URI, Gap("xyz = 1", "\n")) == ()
    assert cache.hits == 3


def test_other_text_around_is_another_place() -> None:
    cache = Cache()
    cache.put(URI, Gap("x", "\n"), ("yz",))
    for uri, gap in (
        ("file:///b.py", Gap("x", "\n")),
        (URI, Gap("X", "\n")),
        (URI, Gap("Xy", "\n")),
        (URI, Gap("x", "\t")),
        (URI, Gap("x", "")),
        (URI, Gap("", "x\n")),
        (URI, Gap("xa", "\n")),
    ):
        assert cache.get(uri, gap) == ()
    assert cache.hits == 0


def test_more_candidates_than_were_asked_for_are_not_there() -> None:
    cache = Cache()
    cache.put(URI, Gap("", ""), ("ab",), asked=1)
    assert cache.get(URI, Gap("", ""), asked=3) == ()
    cache.put(URI, Gap("", ""), ("ab",), asked=3)  # three were asked for and one found
    assert cache.get(URI, Gap("", ""), asked=3) == ("ab",)


def test_the_ones_used_longest_ago_go_first() -> None:
    cache = Cache(size=3)
    for name in "abc":
        cache.put(URI, Gap(name, ""), ("text",))
    assert cache.get(URI, Gap("a", ""))
    cache.put(URI, Gap("d", ""), ("text",))
    assert [name for name in "abcd" if cache.get(URI, Gap(name, ""))] == ["a", "c", "d"]
    assert len(cache) == 3


def test_windows_line_ends_are_typed_as_the_file_has_them() -> None:
    cache = Cache()
    cache.put(URI, Gap("if x:", "\r\n"), ("\n    y\nz",))
    assert cache.get(URI, Gap("if x:\r\n", "\r\n")) == ("    y\r\nz",)


@given(st.text("ab", max_size=4), st.text("ab", max_size=4), st.text("ab", min_size=1, max_size=6), st.data())
def test_a_hit_completes_to_the_same_file(left: str, right: str, text: str, data: st.DataObject) -> None:
    cache = Cache()
    cache.put(URI, Gap(left, right), (text,))
    typed = data.draw(st.text("ab", max_size=6))
    found = cache.get(URI, Gap(left + typed, right))
    assert bool(found) == (text.startswith(typed) and text != typed)
    assert all(left + typed + rest + right == left + text + right for rest in found)

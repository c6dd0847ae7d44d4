"""Nothing that is shown steers the terminal."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from assistant.repl.visible import visible

ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text())
def test_only_tabs_and_line_ends_act(text: str) -> None:
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in ACTING and c not in "\n\t"]
    if not [c for c in text if unicodedata.category(c) in ACTING and c not in "\n\t"]:
        assert shown == text


def test_how_they_are_spelled() -> None:
    assert visible("\x1b[2J\x07\x7f\x9b1m\r") == "^[[2J^G^?<9b>1m^M"
    assert visible("x = '\u202e' # \u2066\u200b") == "x = '<202e>' # <2066><200b>"
    assert visible("größe\t= '日本'\n") == "größe\t= '日本'\n"

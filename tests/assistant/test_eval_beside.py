"""Whether other files help, measured: which lines are asked for, and how answers are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.completion import Request
from assistant.eval.beside import PER_FILE, Use, compare, mcnemar, table, uses
from assistant.eval.fim import File
from tests.assistant.fake import FakeSession, Shell

TEXT = '''"""count(1) in a docstring."""
import os
from .goods import count, missing
from . import goods as g

# count(2) in a comment
def f(x):
    print("count(3)", x)
    y = count(x, kind="all")  # four
    z = [count(
        5)]
    os.path.join(missing(y), "")
    return g.price(y) + z
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    package = tmp_path / "site-packages" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "goods.py").write_text("def count(goods, kind): ...\ndef price(good): ...\n")
    (package / "new.py").write_text(TEXT)
    return package.parent


def found(site: Path, count: int = 9, draw: int = 0) -> list[Use]:
    return uses([File("shop", "shop/new.py", TEXT)], site, count, draw)


def test_a_line_is_cut_where_it_uses_a_name_that_another_file_defines(site: Path) -> None:
    gaps = found(site)
    assert {(use.name, use.middle) for use in gaps} == {
        ("count", 'count(x, kind="all")  # four'),
        ("g", "g.price(y) + z"),
    }
    for use in gaps:
        assert use.gap.filled(use.middle) == TEXT
    assert len(gaps) <= PER_FILE
    assert found(site) == gaps
    assert len(found(site, 1)) == 1


def test_answers_are_paired(site: Path) -> None:
    """A session that writes the line where it is told of the name, and something else where it is not."""
    gaps = found(site)
    by_gap = {use.gap: use for use in gaps}

    def answer(request: Request) -> str:
        use = by_gap[request.gap]
        assert request.temperature == 0
        told = request.context_files and any(
            use.name == "g" or "count" in p for e in request.beside().excerpts for p in e.parts
        )
        return f"{use.middle}\nmore = 1" if told else f"{use.name}.none"

    session, advanced = FakeSession(answer), []
    result = compare(session, gaps, 64, 20, lambda: advanced.append(1))
    assert (result.gaps, result.exact_without, result.exact_with) == (2, 0, 2)
    assert (result.only_without, result.only_with, result.p) == (0, 2, 0.5)
    assert result.begins_with == 2
    assert result.begins_without == 0
    assert len(advanced) == session.forgotten == len(session.requests) == 4
    assert [request.context_files for request in session.requests] == [0, 64, 0, 64]
    assert "of 2" in table(result)


@pytest.mark.parametrize(("b", "c", "p"), [(0, 0, 1.0), (3, 3, 1.0), (0, 6, 0.03125), (2, 4, 0.6875), (10, 1, 0.0117)])
def test_mcnemars_exact_test(b: int, c: int, p: float) -> None:
    assert mcnemar(b, c) == mcnemar(c, b) == pytest.approx(p, abs=1e-4)


def test_without_a_held_out_package_it_says_so(viable: Shell, tmp_path: Path) -> None:
    ran = viable("eval", "imports", "--site", tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert "no held-out package is installed" in ran.error

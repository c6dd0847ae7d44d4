"""Drafted and plain samples of the real model, with noise of their own, come from one distribution."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from assistant.completion import Request
from assistant.document import Gap
from assistant.session import Session, open_session
from assistant.settings import Settings

DRAWS = 200
SAME = 50
"""Seeds for which the drafted and the plain text are compared one by one."""
TOKENS = 3
GAPS = [
    Gap("import math\n\nprint(math.", "(2))\n"),
    Gap("value = ", "\nprint(value)\n"),
]
"""Free choices: about ten answers of each have a share that can be counted."""

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture(scope="module")
def sessions(default_model: Path) -> tuple[Session, Session]:
    settings = Settings(model=str(default_model), device="cpu", temperature=0.8, max_tokens=TOKENS, context=256)
    session = open_session(settings)
    return session, session.undrafted()


@pytest.mark.parametrize("gap", GAPS, ids=["member", "value"])
def test_with_the_same_noise_drafted_and_plain_texts_are_the_same(sessions: tuple[Session, Session], gap: Gap) -> None:
    assert texts(sessions[0], gap, range(SAME)) == texts(sessions[1], gap, range(SAME))


def test_drafted_and_plain_samples_come_from_one_distribution(sessions: tuple[Session, Session]) -> None:
    # Each with noise of its own, for one of the choices: a pair of samples takes a minute.
    drafted = texts(sessions[0], GAPS[-1], range(DRAWS))
    apart = texts(sessions[1], GAPS[-1], range(DRAWS, 2 * DRAWS))
    chi_square, freedom = two_samples(Counter(drafted), Counter(apart))
    print(f"chi-square {chi_square:.1f} with {freedom} degrees of freedom")
    assert freedom >= 6, "hardly anything was left to chance"
    # Wilson and Hilferty's cube root brings chi-square to the normal distribution; 3.3 is its 0.9995 quantile.
    score = ((chi_square / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5
    assert score < 3.3, f"chi-square {chi_square:.1f} with {freedom} degrees of freedom"


def texts(session: Session, gap: Gap, seeds: range) -> list[str]:
    """What was written, first pass to last, for each seed."""
    found = []
    for seed in seeds:
        chunks = session.stream(Request(gap, seed=seed))
        found.append("".join(chunk.text for chunk in chunks))
    return found


def two_samples(a: Counter[str], b: Counter[str]) -> tuple[float, int]:
    """Chi-square of two samples of one size and its degrees of freedom; what is rare is taken together."""
    often = [text for text in a | b if a[text] + b[text] >= 10]
    cells = [(a[text], b[text]) for text in often]
    cells.append((a.total() - sum(x for x, _ in cells), b.total() - sum(y for _, y in cells)))
    cells = [cell for cell in cells if sum(cell)]
    return sum((x - y) ** 2 / (x + y) for x, y in cells), len(cells) - 1

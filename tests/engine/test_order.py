"""The order of tokens: sorted as a plain sort would, sampled as the distribution says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.perturb_reference import mixed
from model.engine.order import FIRST_LOOK, Greedy, Looks, Sampled, ranked


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60))
@settings(deadline=None)
def test_greedy_is_a_stable_sort_with_many_equals(scores: list[int]) -> None:
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    assert list(ranked(torch.tensor(scores).float(), Greedy(), 0)) == expected


@given(st.integers(0, 1000), st.floats(0.1, 2), st.floats(0.01, 1))
@settings(deadline=None, max_examples=50)
def test_every_token_comes_once_and_the_nucleus_first(seed: int, temperature: float, top_p: float) -> None:
    logits = torch.randn(3 * FIRST_LOOK, generator=torch.Generator().manual_seed(seed))
    tokens = list(ranked(logits, Sampled(temperature, top_p, seed), 5))
    assert sorted(tokens) == list(range(len(logits)))
    if top_p == 1:
        return  # all of them are in the nucleus, in an order of chance
    probabilities, order = torch.softmax(logits / temperature, -1).sort(descending=True)
    nucleus = int((probabilities.cumsum(-1) - probabilities < top_p).sum())
    assert set(tokens[:nucleus]) == set(order[:nucleus].tolist())
    assert tokens[nucleus:] == order[nucleus:].tolist()


def test_first_viable_token_follows_the_masked_distribution() -> None:
    """Chi-square over 20,000 draws with tokens 1 and 4 forbidden."""
    logits = torch.tensor([1.0, 3.0, 0.0, -1.0, 2.0, 0.5])
    forbidden = {1, 4}
    allowed = [token for token in range(6) if token not in forbidden]
    expected = torch.softmax(logits / 0.8, -1)[allowed]
    expected = expected / expected.sum()
    draws = 20_000
    counts = dict.fromkeys(allowed, 0)
    for position in range(draws):
        tokens = ranked(logits, Sampled(0.8, seed=11), position)
        counts[next(token for token in tokens if token not in forbidden)] += 1
    chi_square = sum(
        (counts[token] - draws * float(p)) ** 2 / (draws * float(p)) for token, p in zip(allowed, expected, strict=True)
    )
    assert chi_square < 16.27  # 0.999 quantile, 3 degrees of freedom


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=50))
def test_words_are_mixed_as_murmurhash_mixes_them(words: list[int]) -> None:
    def plain(word: int) -> int:
        word &= 0xFFFFFFFF
        word = (word ^ (word >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
        word = (word ^ (word >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
        return word ^ (word >> 16)

    found = mixed(torch.tensor(words, dtype=torch.int32))
    assert [word & 0xFFFFFFFF for word in found.tolist()] == [plain(word) for word in words]


def test_noise_is_gumbels_and_one_row_says_nothing_of_another() -> None:
    rows = torch.cat([Sampled(1.0, seed=seed).keys(torch.zeros(8, 50_000), range(8)) for seed in range(5)])
    assert bool(rows.isfinite().all())
    # Euler's constant and π²/6; six standard errors of two million.
    assert abs(float(rows.mean()) - 0.577216) < 6 * 1.2825 / 2e6**0.5
    assert abs(float(rows.var()) - 1.644934) < 6 * 1.644934 * 4.4**0.5 / 2e6**0.5
    apart = torch.corrcoef(rows) - torch.eye(len(rows))
    assert float(apart.abs().max()) < 6 / 50_000**0.5
    shifted = torch.corrcoef(torch.stack([rows.flatten()[:-1], rows.flatten()[1:]]))
    assert abs(float(shifted[0, 1])) < 6 / 2e6**0.5


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_rows_together_are_ranked_as_one_by_one(top_p: float) -> None:
    logits = torch.randn(3, 70, generator=torch.Generator().manual_seed(4))
    order = Sampled(0.7, top_p, seed=5)
    together = Looks(logits, order, [9, 2, 30])
    for row, position in enumerate((9, 2, 30)):
        assert list(together.ids(row)) == list(ranked(logits[row], order, position))


def test_the_same_seed_and_position_give_the_same_order() -> None:
    logits = torch.randn(500)
    assert list(ranked(logits, Sampled(1.0, 0.9, 7), 3)) == list(ranked(logits, Sampled(1.0, 0.9, 7), 3))
    assert list(ranked(logits, Sampled(1.0, 0.9, 7), 3)) != list(ranked(logits, Sampled(1.0, 0.9, 7), 4))


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, 1.5)])
def test_impossible_settings_are_named(temperature: float, top_p: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Sampled(temperature, top_p)

"""From the last layer to the best ids and the next block, against the twins: `kernels.ranking`, `kernels.drafting`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import kernels
from kernels import launching
from kernels.drafting import REACH, Joining, Repetition
from kernels.ranking import Scores
from kernels.weights import Head
from model.quantised import to_q8
from tests.kernels.test_pairs_block import BOUNDS, both, error, few_bits, random

pytestmark = [
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),  # every launch here says which it wants
    *([] if launching.INTERPRETED else [pytest.mark.gpu]),
]


def tops(logits: Tensor, segment: int) -> Tensor:
    """The highest score of each segment: [R, P]."""
    return torch.stack([some.amax(1) for some in logits.split(segment, 1)], 1)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "eight bits", "Q8_0"])
@pytest.mark.parametrize(
    ("rows", "k", "n"),
    [
        (1, 64, 9),
        (3, 40, 131),
        (2, 130, 257),
        pytest.param(3, 896, 151_936, marks=pytest.mark.gpu),
        pytest.param(19, 896, 32_768, marks=pytest.mark.gpu),
    ],
)
def test_scores_and_the_best_of_each_segment(rows: int, k: int, n: int, kind: str, device: str) -> None:
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    k = k if kind != "Q8_0" else -(-k // 32) * 32  # of which it has whole groups
    weight: Head = random(n, k, dtype=dtype, device=device)
    if kind == "eight bits":
        weight = few_bits(n, k, 8, device)
    elif kind == "Q8_0":
        weight = to_q8(random(n, k, device=device))
    x, gain = random(rows, k, device=device), random(k, dtype=dtype, device=device)
    ours, twin = both(lambda: kernels.norm_scores(x, gain, 1e-6, weight))
    assert error(ours.logits, twin.logits) <= BOUNDS[dtype]
    assert torch.equal(ours.tops, tops(ours.logits, ours.segment))
    for row in range(rows):
        at = torch.tensor([row], dtype=torch.int32, device=device)
        alone = kernels.norm_scores(x, gain, 1e-6, weight, at=at)
        for one, all_of_them in zip(alone[:2], ours[:2], strict=True):
            assert torch.equal(one, all_of_them[row : row + 1])


@pytest.mark.parametrize("vocabulary", [8, 63, 1000, 2500, pytest.param(151_936, marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("count", "segment"), [(1, 32), (8, 32), (8, 100)])
def test_the_best_ids_come_in_order(vocabulary: int, count: int, segment: int, device: str) -> None:
    logits = random(4, vocabulary, device=device)
    logits[1] = logits[1].round()  # many equals, some of them minus zero
    logits[2] = -torch.inf
    logits[2, -1] = -3e38
    logits[3] = torch.randint(0, 2, (vocabulary,)).to(device) * -0.0
    found = Scores(logits, tops(logits, segment), segment)
    hidden = random(4, 65, device=device)
    for start in (0, 3, 6):  # the last row takes what lies beyond
        place = torch.tensor([start], dtype=torch.int32, device=device)

        def call(place: Tensor = place) -> tuple[Tensor, ...]:
            streams, said = torch.full((9, 65), 7.0, device=device), torch.zeros(4 * count, dtype=torch.int32)
            told = said.to(device)
            return kernels.rank(found, count, hidden, place, streams, told), streams[:8], told

        for ours, twin in zip(*both(call), strict=True):
            assert torch.equal(ours, twin)


@pytest.mark.parametrize("count", [1, 5, 8])
def test_single_tokens_advance(count: int, device: str) -> None:
    logits = random(1, 90, device=device)
    found = Scores(logits, tops(logits, 32), 32)

    def call() -> tuple[Tensor, ...]:
        block = torch.tensor([41, 1, 7], dtype=torch.int32, device=device)
        said, streams = torch.zeros(count + 3, dtype=torch.int32, device=device), torch.zeros(60, 33, device=device)
        best = kernels.rank(found, count, random(1, 33, device=device), block[:1], streams, said, block)
        return best, block, said, streams

    ours, twin = both(call)
    assert all(torch.equal(*pair) for pair in zip(ours, twin, strict=True))
    assert ours[1].tolist() == [42, 1, int(logits.argmax())]
    assert ours[3][41].any() and not ours[3][42].any()


@pytest.mark.gpu
def test_the_host_reads_what_the_device_writes(device: str) -> None:
    logits = random(3, 1000, device=device)
    said = torch.zeros(24, dtype=torch.int32, pin_memory=True)
    place, streams = torch.zeros(1, dtype=torch.int32, device=device), torch.zeros(9, 33, device=device)
    found = Scores(logits, tops(logits, 32), 32)
    best = kernels.rank(found, 8, random(3, 33, device=device), place, streams, said)
    torch.cuda.synchronize()
    assert torch.equal(said.view(3, 8), best.cpu())


@pytest.mark.parametrize("columns", [63, 1000])
@pytest.mark.parametrize("kind", ["plain", "eight bits", "Q8_0", "chained"])
@pytest.mark.parametrize(("rows", "drafting"), [(3, 2), (5, 4), (8, 3), (14, 2)])
def test_what_comes_of_a_block(rows: int, drafting: int, kind: str, columns: int, device: str) -> None:
    """All that lies between the layers of modules, from one block to the next, with layers that are made up."""
    generator = torch.Generator().manual_seed(rows)

    def some(most: int, *shape: int) -> Tensor:
        return torch.randint(0, most, shape, generator=generator, dtype=torch.int32).to(device)

    columns = columns if kind != "Q8_0" else -(-columns // 32) * 32  # of which it has whole groups
    table: Any = random(900, columns, device=device)
    if kind == "eight bits":
        table = few_bits(900, columns, 8, device)
    elif kind == "Q8_0":
        table = to_q8(table)
    # The interpreter cuts off what is rounded elsewhere.
    rounded = torch.bfloat16 if kind == "Q8_0" and launching.INTERPRETED else torch.float32
    before = (random(columns, seed=2, device=device), 1e-5) if kind == "chained" else None
    gains = (random(columns, device=device), random(columns, device=device, seed=1))
    of, ids = Joining(before, gains, 1e-6, table), some(900, 300)
    capacity = 40
    history = some(4, capacity + 1)  # of so few ids that most of it is repetition
    streams, states = random(2, capacity + 1, columns, device=device)
    made = random(3, rows + 2, columns, seed=3, device=device)
    for count in {1, 2, rows - 1, rows}:
        for start in (2, 17, capacity - rows):
            # Of four ids, so that the decoder agrees with none, some or all.
            best, tokens = some(4, rows, 8), some(4, rows)
            place = [start, count, *tokens.tolist(), start - 1, start - 2]
            logits = [random(1, 300, seed=i, device=device).round(decimals=1) for i in range(drafting)]  # equals, too
            scores = [Scores(each, tops(each, 32), 32) for each in logits]

            def call(
                best: Tensor = best, place: list[int] = place, scores: list[Scores] = scores
            ) -> tuple[Tensor, ...]:
                block = torch.tensor(place, dtype=torch.int32, device=device)
                kept, drafts = states.clone(), torch.zeros(drafting, dtype=torch.int32, device=device)
                joined, plan = kernels.join_first(best, block, streams, of, drafting - 2)
                parts = [joined]
                parts += [kernels.join_second(best, block, plan, scores[0], ids, made[0, 1:], kept, drafts, of)]
                for number in range(1, drafting - 1):
                    at = plan[1:2] if number == 1 else plan[2:3]
                    parts += [kernels.join_on(made[number], at, scores[number], ids, drafts, number, of)]
                said, after, written = torch.empty_like(best), torch.empty_like(block[:-1]), history.clone()
                kernels.settle(best, block, plan, scores[-1], ids, drafts, Repetition(written, 4, 1), said, after)
                # What lies behind the token that was drafted is computed in vain.
                seen = int(plan[1]) + 1
                numbers = [plan, block, said, after, written, drafts[:-1]]
                return torch.cat([joined, parts[1][:seen], *parts[2:]]), kept, *numbers

            ours, twin = both(call)
            assert error(ours[0], twin[0]) <= BOUNDS[rounded]
            assert all(torch.equal(*pair) for pair in zip(ours[1:], twin[1:], strict=True))


@pytest.mark.parametrize("reach", ["nothing", "a run", "the whole"])
@pytest.mark.parametrize("certain", [1, 3, 11])
@pytest.mark.parametrize("likely", [1, 4, 11])
def test_repetition_fills_a_block(certain: int, likely: int, reach: str, device: str) -> None:
    """Long texts of few and of many ids, up to the last position, with longer runs in them than are compared."""
    generator = torch.Generator().manual_seed(certain)
    capacity, rows = 3000, 12
    seen = set()
    for start, most in ((1, 3), (30, 2), (2500, 3), (2500, 200), (capacity - 12, 60)):
        history = torch.randint(0, most, (capacity + 1,), generator=generator, dtype=torch.int32)
        if reach == "a run":
            history[start - 15 : start] = history[:15] if start > 30 else 1
        history[5 if reach == "nothing" else start :] = -1
        history = history.to(device)
        tokens = torch.randint(0, most, (rows,), generator=generator, dtype=torch.int32)
        best = torch.stack([tokens.roll(-1), tokens], 1).contiguous().to(device)  # the decoder agrees with all
        logits = random(1, 300, device=device)
        scores = Scores(logits, tops(logits, 32), 32)
        ids = torch.arange(300, dtype=torch.int32, device=device) % most
        plan = torch.tensor([5, 6, 0], dtype=torch.int32, device=device)

        def call(
            start: int = start, tokens: Tensor = tokens, best: Tensor = best, history: Tensor = history,
            scores: Scores = scores, ids: Tensor = ids, plan: Tensor = plan,
        ) -> tuple[Tensor, ...]:  # fmt: skip
            block = torch.tensor([start, 5, *tokens.tolist(), 0, 0], dtype=torch.int32, device=device)
            drafts = torch.tensor([1, 0], dtype=torch.int32, device=device)
            said, after, written = torch.empty_like(best), torch.empty_like(block[:-1]), history.clone()
            repetition = Repetition(written, certain, likely)
            kernels.settle(best, block, plan, scores, ids, drafts, repetition, said, after)
            return block, said, after, written

        ours, twin = both(call)
        assert all(torch.equal(*pair) for pair in zip(ours, twin, strict=True))
        _, count, *_, drafted = ours[2].tolist()
        seen.add((count, drafted))
    assert seen <= {(3, 2), (rows, 2), (rows, 0)}
    if certain == likely == 11:  # more than are compared
        assert seen == {(3, 2)}
    elif reach != "nothing":
        assert (rows, 0 if certain < 11 else 2) in seen


def test_repetition_is_looked_for_within_reach(device: str) -> None:
    """The longest run ends just outside, a shorter one just inside; without that one there is none."""
    capacity, run, start = 9000, [901, 902, 903, 904], 8990
    block = torch.tensor([start, 1, 904, 0, 0, 0, 0, 0, 0, 0], dtype=torch.int32, device=device)
    best = torch.tensor([[905], [0], [0], [0], [0], [0]], dtype=torch.int32, device=device)
    plan = torch.tensor([1, 2, 0], dtype=torch.int32, device=device)
    scores = Scores(torch.zeros(1, 9, device=device), torch.zeros(1, 1, device=device), 32)
    ids, end = torch.arange(9, dtype=torch.int32, device=device), start + 2
    for inside in (True, False):
        history = torch.arange(10_000, 10_000 + capacity + 1, dtype=torch.int32)
        history[start - 3 : start] = torch.tensor(run[:3])
        at = end - REACH - 1  # the place behind the run that nobody looks at any more
        history[at - 5 : at + 1] = torch.tensor([*run, 905, 7])
        if inside:
            history[at - 1 + 2 : at + 4] = torch.tensor([904, 905, 8])

        def call(history: Tensor = history) -> tuple[Tensor, ...]:
            there, written = block.clone(), history.to(device)
            said, after = torch.empty_like(best), torch.empty_like(block[:-1])
            drafts = torch.zeros(2, dtype=torch.int32, device=device)
            kernels.settle(best, there, plan, scores, ids, drafts, Repetition(written, 2, 11), said, after)
            return there, after

        ours, twin = both(call)
        assert all(torch.equal(*pair) for pair in zip(ours, twin, strict=True))
        assert ours[1].tolist()[:4] == ([start + 1, 6, 905, 8] if inside else [start + 1, 3, 905, 0])


def settled(
    certain: int = 3, likely: int = 1, history: Tensor | None = None, drafts: int = 2, following: int = 7
) -> None:
    """One call with something wrong: blocks of four tokens."""
    whole = torch.zeros(9, dtype=torch.int32)
    scores = Scores(torch.ones(1, 9), torch.ones(1, 1), 32)
    repetition = Repetition(whole if history is None else history, certain, likely)
    best, told = torch.zeros(4, 1, dtype=torch.int32), torch.zeros(following, dtype=torch.int32)
    kernels.settle(
        best, whole[:8].clone(), whole[:3], scores, whole, whole[:drafts].clone(), repetition, best.clone(), told
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda found, x, one: kernels.rank(found, 5, x, one, x), "5 ids of 4"),
        (lambda found, x, one: kernels.rank(found, 2, x[:1], one, x), "rows"),
        (lambda found, x, one: kernels.rank(found, 2, x, one, x, x[0]), "said is torch.float32"),
        (lambda found, x, one: kernels.rank(found, 2, x, one, x, torch.ones(3).int()), r"expected \[4\]"),
        (lambda found, x, one: kernels.norm_scores(x, x[0], 1e-6, x, at=torch.ones(2).int()), r"expected \[1\]"),
        (lambda found, x, one: settled(certain=0), "0 and 1 tokens"),
        (lambda found, x, one: settled(likely=0), "3 and 0 tokens"),
        (lambda found, x, one: settled(history=x[0]), "history is torch.float32"),
        (lambda found, x, one: settled(drafts=4), "4 drafts behind 4 tokens"),
        (lambda found, x, one: settled(following=8), r"expected \[7\]"),
        (lambda found, x, one: kernels.join_first(x.int(), one, x, Joining(None, (x[0], x[0]), 1.0, x), 0), "block"),
    ],
)
def test_misuse_names_the_value(call: Callable[..., Any], words: str) -> None:
    x = torch.ones(2, 4)
    with pytest.raises(ValueError, match=words):
        call(Scores(x, torch.ones(2, 1), 4), x, torch.ones(1).int())

"""Drafts that are computed with the block, held to drafts module by module: the same tokens, and no pass too many."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
import torch

import model
from kernels.drafting import LONGEST
from model import mtp
from model.engine import Draft, Fixed, Greedy, LookupDraft, NoDraft, Sampled, decode, trusting, verified
from model.engine.contracts import Drafter
from model.engine.graph_drafts import LEAST, GraphDraft, Repeats
from model.engine.graph_follow import Following
from model.engine.graph_scorer import GraphScorer
from model.engine.mtp_draft import MTPDraft
from model.engine.scorer import CachedScorer
from model.gpu.follow import Follow
from model.gpu.record import Pool
from model.mtp_rows import MTPRows
from tests.tiny import write_tiny_gguf
from validators import AcceptAll

CAPACITY = 160
PROMPT = [(7 * i + i * i) % 250 for i in range(40)]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory, device: str) -> model.Decoder:
    path = write_tiny_gguf(tmp_path_factory.mktemp("drafts"), width=96, heads=3, groups=1, layers=2, feed_forward=72)
    return model.load(path, device=device, dtype="float32")


def rows_for(decoder: model.Decoder, capacity: int = CAPACITY) -> MTPRows:
    """Modules that begin as the decoder's last block, and therefore draft something."""
    ids = [(3 * i) % 256 for i in range(128)]
    modules = mtp.fresh(decoder, mtp.MTPConfig(2, 40, len(ids)), sorted(set(ids)), seed=1).requires_grad_(False)
    return MTPRows(modules, decoder, [modules.head_rows(decoder)], capacity)


class Refusing:
    """Refuses every token whose number and place add up to a multiple of `each`."""

    def __init__(self, each: int) -> None:
        self._each = each

    def accept_block(self, state: int, ids: Sequence[int]) -> tuple[int, int]:
        for count, token in enumerate(ids):
            if (token + state + count) % self._each == 0:
                return count, state + count
        return len(ids), state + len(ids)

    def complete(self, state: int) -> bool:
        return True


class Wrong:
    """Drafts tokens that nobody else would."""

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        return Draft(((ids[-1] + 1) % 250, 3)[:width], "wrong")


def written(
    scorer: GraphScorer | CachedScorer, drafter: Drafter, each: int = 0, count: int = 40, **more: object
) -> list[int]:
    arguments = {"order": Greedy(), "window": Fixed(2), "accept": verified, "prompt": PROMPT} | more
    steps = decode(
        scorer=scorer,
        validator=Refusing(each) if each else AcceptAll(),
        state=0 if each else None,
        drafter=drafter,
        end_ids=(),
        max_tokens=count,
        **arguments,  # type: ignore[arg-type]
    )
    return [token for step in steps for token in step.ids]


@pytest.mark.parametrize("each", [0, 2, 7])
@pytest.mark.parametrize("order", [Greedy(), Sampled(0.9, 0.9, seed=4)], ids=["greedy", "sampled"])
@pytest.mark.parametrize(("width", "longest", "tokens"), [(1, 2, 3), (5, 2, 3), (3, 3, 4), (4, 4, 5), (13, 2, 14)])
def test_writes_what_single_tokens_write(
    decoder: model.Decoder, each: int, order: object, width: int, longest: int, tokens: int
) -> None:
    scorer = GraphScorer(decoder, CAPACITY)
    drafter = scorer.drafter(rows_for(decoder), longest, Repeats(tokens, 3, 1))
    assert drafter is not None
    plain = CachedScorer(decoder, CAPACITY)
    expected = written(plain, NoDraft(), each, order=order, window=Fixed(0))
    assert written(scorer, drafter, each, order=order, window=Fixed(width)) == expected
    # A second prompt that begins like the first text, with what is cached of it.
    again = [*PROMPT, *expected[:33]]
    expected = written(plain, NoDraft(), each, order=order, window=Fixed(0), prompt=again)
    assert written(scorer, drafter, each, order=order, window=Fixed(width), prompt=again) == expected


def test_what_follows_is_under_way_before_it_is_asked_for(decoder: model.Decoder) -> None:
    scorer = GraphScorer(decoder, CAPACITY)
    drafter = scorer.drafter(rows_for(decoder))
    assert drafter is not None
    written(scorer, drafter)
    # All but the prompt, the pass behind it and the first that drafts; what was started last nobody asked for.
    assert scorer.hits == scorer.passes - 3 > 20
    assert scorer.replays == scorer.passes - 1


def test_the_first_token_does_not_wait_for_the_modules(decoder: model.Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = GraphScorer(decoder, CAPACITY)
    drafter = scorer.drafter(rows_for(decoder))
    assert drafter is not None
    begun: list[int] = []
    follow = Following.follow

    def noted(following: Following, known: Sequence[int], same: int) -> None:
        begun.append(scorer.passes)
        follow(following, known, same)

    monkeypatch.setattr(Following, "follow", noted)
    text = [*PROMPT, *written(scorer, drafter)]
    assert begun == [2]  # behind the prompt and one more token
    before = scorer.passes
    written(scorer, drafter, prompt=[*text, 7, 8])
    assert begun[1:] == [before + 2]


@pytest.mark.parametrize("widths", [(64, 128), (4, 16), (1,)], ids=str)
@pytest.mark.parametrize("parts", [(40,), (1, 2, 3, 40), (17, 33), (40, 140)], ids=str)
def test_follows_a_text_as_the_modules_do_token_by_token(
    decoder: model.Decoder, widths: tuple[int, ...], parts: tuple[int, ...], device: str
) -> None:
    """In parts, each behind what is known: with passes of several widths, some of them filled up on a GPU."""
    rows, slow = rows_for(decoder), rows_for(decoder)
    for layer in rows.cache.layers:
        for kept in layer.rows:
            kept.fill_(torch.nan)  # as memory may be that nobody has written
    random = Random(5)
    known = [random.randrange(250) for _ in range(parts[-1])]
    streams = torch.randn(CAPACITY + 1, decoder.config.width, generator=torch.Generator().manual_seed(1)).to(device)
    states = torch.zeros_like(streams)
    rotation = GraphScorer(decoder, CAPACITY)._block.rotation
    pool = Pool(torch.device(device)) if device == "cuda" else None
    follow, history = Follow(rows, rotation, streams, states), torch.full((CAPACITY + 1,), -1, device=device).int()
    following = Following(follow, history, widths, CAPACITY, True, torch.device(device), pool)
    same = 0
    for end in parts:
        following.follow(known[:end], same)
        same = end
    below, expected = streams, torch.zeros_like(states)
    for depth, kept in enumerate((expected, torch.zeros_like(states))):
        for at in range(len(known) - 1 - depth):
            token = known[at + depth + 1]
            kept[at : at + 1] = slow.advance(depth, below[at : at + 1], [token], at)
        below = kept
    count = len(known) - 1
    assert history.tolist() == [-1, *known[1:], *[-1] * (CAPACITY - count)]
    torch.testing.assert_close(states[:count], expected[:count], rtol=1e-3, atol=1e-4)
    for depth, (one, other) in enumerate(zip(rows.cache.layers, slow.cache.layers, strict=True)):
        for fast, each in zip(one.rows, other.rows, strict=True):
            torch.testing.assert_close(fast[:, :, : count - depth], each[:, :, : count - depth], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("longest", [2, 3, 5])
@pytest.mark.parametrize("each", [0, 5])
def test_drafts_what_the_modules_draft_one_by_one(decoder: model.Decoder, each: int, longest: int) -> None:
    scorer = GraphScorer(decoder, CAPACITY)
    drafter = scorer.drafter(rows_for(decoder), longest)
    assert drafter is not None
    plain = CachedScorer(decoder, CAPACITY)
    slow = MTPDraft(rows_for(decoder), plain, CAPACITY, longest)
    seen: list[int] = []

    class Both:
        def propose(self, ids: Sequence[int], width: int) -> Draft:
            draft = drafter.propose(ids, width)
            if draft.ids:
                plain.truncate(0)
                plain.extend(ids[:-1], Greedy())
                assert slow.propose(ids, width).ids == draft.ids
                seen.append(len(draft.ids))
            return draft

    written(scorer, Both(), each, window=Fixed(longest))
    assert len(seen) > 7 and seen.count(longest) >= len(seen) - longest + 1  # the last tokens have no room for all


@pytest.mark.parametrize("each", [0, 5])
@pytest.mark.parametrize("repeats", [Repeats(8, 3, 1), Repeats(14, 11, 2), Repeats(14, 2, 11)], ids=str)
def test_repetition_fills_blocks_up(decoder: model.Decoder, each: int, repeats: Repeats) -> None:
    """The tiny model writes itself into loops: what is looked up on the device is what the host would look up."""
    scorer, plain = GraphScorer(decoder, CAPACITY), CachedScorer(decoder, CAPACITY)
    drafter = scorer.drafter(rows_for(decoder), 2, repeats)
    assert drafter is not None
    expected = written(plain, NoDraft(), each, window=Fixed(0), count=80)
    slow = MTPDraft(rows_for(decoder), plain, CAPACITY, 2)
    sources: list[str] = []

    class Checked:
        def propose(self, ids: Sequence[int], width: int) -> Draft:
            draft = drafter.propose(ids, width)
            if width and draft.ids:
                plain.truncate(0)
                plain.extend(ids[:-1], Greedy())
                copied = repeated(ids, repeats.certain, width)
                own = [] if copied else list(slow.propose(ids, min(width, 2)).ids)
                beyond = [] if copied else repeated([*ids, *own], repeats.likely, width - len(own))
                assert list(draft.ids) == [*copied, *own, *beyond]
                assert draft.parts == tuple(
                    part for part in (("mtp", len(own)), ("lookup", len(copied) + len(beyond))) if part[1]
                )
                sources.extend(source for source, _ in draft.parts)
            return draft

    assert written(scorer, Checked(), each, window=Fixed(repeats.tokens - 1), count=80) == expected
    assert {"mtp", "lookup"} == set(sources) and scorer.hits > 0


def repeated(ids: Sequence[int], shortest: int, width: int) -> list[int]:
    """What `LookupDraft` finds, but that neither the first token is known nor a run of more than ten compared."""
    if shortest > LONGEST:
        return []
    return list(LookupDraft(shortest=shortest, longest=LONGEST).propose([-1, *ids[1:]], width).ids)


def test_a_longer_block_goes_without_drafts(decoder: model.Decoder) -> None:
    scorer = GraphScorer(decoder, CAPACITY)
    drafter = scorer.drafter(rows_for(decoder))
    assert drafter is not None
    expected = written(CachedScorer(decoder, CAPACITY), NoDraft(), window=Fixed(0), count=60)

    class Right:
        def propose(self, ids: Sequence[int], width: int) -> Draft:
            drafter.propose(ids, width)
            return Draft(tuple(expected[len(ids) - len(PROMPT) :][:width]), "right")

    assert written(scorer, Right(), window=Fixed(9), count=60) == expected
    assert scorer.hits == 0


def test_a_block_taken_on_trust_is_not_lost(decoder: model.Decoder) -> None:
    """Tokens that the decoder would not have written are kept; what was under way had written over their rows."""

    class Wanting(Wrong):
        def propose(self, ids: Sequence[int], width: int) -> Draft:
            scorer.want_draft()
            return super().propose(ids, width)

    scorer, plain = GraphScorer(decoder, CAPACITY), CachedScorer(decoder, CAPACITY)
    assert scorer.drafter(rows_for(decoder)) is not None
    expected = written(plain, Wrong(), accept=trusting)
    assert written(scorer, Wanting(), accept=trusting) == expected


@pytest.mark.parametrize("longest", [2, 4])
def test_near_the_start_and_the_end_blocks_do_not_draft(decoder: model.Decoder, longest: int) -> None:
    scorer, plain = GraphScorer(decoder, CAPACITY), CachedScorer(decoder, CAPACITY)
    drafter = scorer.drafter(rows_for(decoder), longest)
    assert drafter is not None
    for prompt in ([5], [5, 6], [5, 6, 7], [*PROMPT, *PROMPT, *PROMPT, *PROMPT[:30]]):
        expected = written(plain, NoDraft(), prompt=prompt)
        assert written(scorer, drafter, prompt=prompt, window=Fixed(longest)) == expected


def test_modules_of_another_kind_are_left_to_others(decoder: model.Decoder) -> None:
    ids = list(range(100))
    single = mtp.fresh(decoder, mtp.MTPConfig(1, 40, len(ids)), ids, seed=1).requires_grad_(False)
    rows = MTPRows(single, decoder, [single.head_rows(decoder)], CAPACITY)
    assert GraphScorer(decoder, CAPACITY).drafter(rows) is None
    assert LEAST == 3 and isinstance(GraphScorer(decoder, CAPACITY).drafter(rows_for(decoder)), GraphDraft)


def test_without_room_drafts_are_left_to_others(decoder: model.Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.engine.graph_scorer.DraftPass", _no_room)
    scorer = GraphScorer(decoder, CAPACITY)
    assert scorer.drafter(rows_for(decoder)) is None
    assert scorer.predicted() is None and written(scorer, NoDraft(), count=3)


def _no_room(*_: object) -> None:
    raise torch.OutOfMemoryError

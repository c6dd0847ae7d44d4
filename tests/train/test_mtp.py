"""The modules: what they read where, cached as at once, and as their file keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from assistant.eval.drafts import measure, walk
from model import Decoder, mtp
from model.attention.span import Span
from model.errors import BadWeights
from model.mtp_rows import MTPRows
from model.train.batched import generate
from tests.train.small import decoder, ids_like

SHAPE = mtp.MTPConfig(depth=2, feed_forward_width=64, vocabulary=100)


def modules(made: Decoder, shape: mtp.MTPConfig = SHAPE, seed: int = 3) -> mtp.MTP:
    return mtp.fresh(made, shape, range(shape.vocabulary), seed).requires_grad_(False)


def test_every_depth_reads_the_state_before_it_and_a_later_token(tmp_path: Path) -> None:
    made, tokenizer, _ = decoder(tmp_path)
    trained = modules(made)
    ids = ids_like(tokenizer, 2, 12)
    hidden = made.hidden(ids)
    states = trained.states(made, ids, hidden)
    # The slow twin: position by position, from the definition.
    state = hidden
    for k, (depth, found) in enumerate(zip(trained.depths, states, strict=True), 1):
        assert isinstance(depth, mtp.MTPModule)
        assert found.shape == (2, 12 - k, 64)
        for t in range(12 - k):
            joined = torch.cat(
                [depth.state_norm(state[:, : t + 1]), depth.embedding_norm(made.embedding(ids[:, k : k + t + 1]))], -1
            )
            span = Span(0, t + 1, made.rotary(torch.arange(t + 1)), torch.float32)
            alone = depth.block(F.linear(joined, depth.projection.weight), span, None)[:, -1]
            torch.testing.assert_close(found[:, t], alone, rtol=1e-4, atol=1e-4)
        state = found


@pytest.mark.parametrize("depth", [1, 2])
def test_run_on_from_every_place_at_once_is_what_a_drafter_does_from_one(tmp_path: Path, depth: int) -> None:
    made, tokenizer, _ = decoder(tmp_path)
    shape = mtp.MTPConfig(depth, feed_forward_width=64, vocabulary=100)
    trained = modules(made, shape)
    ids = ids_like(tokenizer, 2, 14)
    hidden = made.hidden(ids)
    states = trained.states(made, ids, hidden, beyond=3)
    assert [state.shape for state in states] == [(2, 14 - k, 64) for k in range(1, depth + 4)]
    for with_none, with_more in zip(trained.states(made, ids, hidden), states, strict=False):
        torch.testing.assert_close(with_none, with_more)
    for text in range(2):
        for t in range(14 - depth - 3):
            # The slow twin: the rows of the text up to t, and from there on one at a time, as `MTPDraft` computes them.
            rows = MTPRows(trained, made, [trained.head_rows(made)], 20)
            below = hidden[text]
            for k in range(depth):
                with torch.inference_mode():
                    below = rows.advance(k, below[: t + 1], ids[text, k + 1 : t + k + 2].tolist(), 0)
            state = below[-1:]
            torch.testing.assert_close(states[depth - 1][text, t], state[0], rtol=1e-4, atol=1e-4)
            for n in range(1, 4):
                with torch.inference_mode():
                    state = rows.advance(depth - 1, state, [int(ids[text, t + depth + n])], t + n)
                torch.testing.assert_close(states[depth - 1 + n][text, t], state[0], rtol=1e-4, atol=1e-4)


def test_a_later_token_changes_nothing_before_it(tmp_path: Path) -> None:
    made, tokenizer, _ = decoder(tmp_path)
    trained = modules(made)
    ids = ids_like(tokenizer, 1, 12)
    other = ids.clone()
    other[0, 8] = (other[0, 8] + 1) % 256
    for k, (a, b) in enumerate(
        zip(*(trained.states(made, x, made.hidden(x)) for x in (ids, other)), strict=True), start=1
    ):
        same = [t for t in range(12 - k) if torch.allclose(a[0, t], b[0, t], atol=1e-6)]
        assert same == list(range(8 - k))


@pytest.mark.parametrize("pieces", [[11], [1] * 11, [4, 1, 6], [7, 3, 1]])
def test_cached_is_at_once(tmp_path: Path, pieces: list[int]) -> None:
    made, tokenizer, _ = decoder(tmp_path)
    trained = modules(made)
    ids = ids_like(tokenizer, 1, 13)
    hidden = made.hidden(ids)
    whole = trained.states(made, ids, hidden)
    cache = trained.new_cache(32, 1, torch.float32)
    state = hidden
    for k, (depth, layer) in enumerate(zip(trained.depths, cache.layers, strict=True), 1):
        found, start = [], 0
        for size in pieces:
            span = Span(start, size, made.rotary(torch.arange(start, start + size)), torch.float32)
            embedded = made.embedding(ids[:, start + k : start + k + size])
            with torch.inference_mode():
                found.append(depth(state[:, start : start + size], embedded, span, layer))
            start += size
        torch.testing.assert_close(torch.cat(found, 1), whole[k - 1][:, :11], rtol=1e-4, atol=1e-4)
        state = whole[k - 1]


def test_narrow_modules_keep_the_strongest_features(tmp_path: Path) -> None:
    made, _, _ = decoder(tmp_path)
    last = made.blocks[-1].feed_forward
    with torch.no_grad():
        last.down.weight[:, [5, 40]] = 0.0
    narrow = modules(made, mtp.MTPConfig(1, 94, 100))
    kept = [i for i in range(96) if i not in (5, 40)]
    inner = narrow.depths[0].block.feed_forward
    assert torch.equal(inner.down.weight, last.down.weight[:, kept])
    assert torch.equal(inner.gate_up.weight, last.gate_up.weight[[*kept, *(i + 96 for i in kept)]])


def test_four_bits(tmp_path: Path) -> None:
    weight = torch.randn(7, 96, generator=torch.Generator().manual_seed(0))
    weight[2, 32:64] = 0.0
    codes, scales = mtp.quantise(weight)
    assert codes.max() <= 15 and scales.shape == (7, 3)
    back = mtp.dequantise(codes, scales)
    steps = scales.float().abs().repeat_interleave(32, 1)
    # Half a step, but for numbers beyond the last code on the side of the smaller range.
    assert ((weight - back).abs() <= steps * 1.002).all()
    assert ((weight - back).abs() <= steps * 0.502).float().mean() > 0.95
    assert torch.equal(back[2, 32:64], torch.zeros(32))
    assert torch.equal(mtp.rounded(back), back)


def test_the_file_gives_back_what_was_rounded(tmp_path: Path) -> None:
    made, tokenizer, _ = decoder(tmp_path)
    trained = modules(made)
    trained.about = {"base": "abc"}
    path = tmp_path / "m.safetensors"
    mtp.save(trained, path)
    back = mtp.load(path, made)
    assert back.about == {"base": "abc"} and back.config == SHAPE and mtp.header(path).config == SHAPE
    assert torch.equal(back.ids, trained.ids)
    for (name, a), (_, b) in zip(trained.named_parameters(), back.named_parameters(), strict=True):
        expected = mtp.rounded(a) if mtp.is_matrix(name, a) else a.to(torch.float16).float()
        assert torch.equal(b, expected)
    ids = ids_like(tokenizer, 1, 8)
    assert trained.states(made, ids, made.hidden(ids))[1].shape == back.states(made, ids, made.hidden(ids))[1].shape
    mtp.save(back, tmp_path / "n.safetensors")
    again = mtp.load(tmp_path / "n.safetensors", made)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), back.parameters(), strict=True))


def test_modules_of_another_model_are_refused(tmp_path: Path) -> None:
    made, _, _ = decoder(tmp_path)
    mtp.save(modules(made), tmp_path / "m.safetensors")
    other, _, _ = decoder(tmp_path, width=32)
    with pytest.raises(BadWeights, match=r"is \["):
        mtp.load(tmp_path / "m.safetensors", other)


def test_blocks_are_walked_as_decoding_would() -> None:
    right = [[False, True, True, False, True, True], [False, False, True, True, False, True]]
    # Place 0: nothing kept. 1: its draft is right, and the second one's for place 2. 4: right, then 5 is right as well.
    assert walk(right, 0, 6) == [1, 3, 2]
    assert walk(right, 3, 6) == [1, 2]
    assert walk([[True] * 9, [True] * 9], 0, 9) == [3, 3, 3]
    assert walk([[False] * 4, [True] * 4], 0, 4) == [1, 1, 1, 1]
    assert sum(walk(right, 0, 6)) == 6


def test_measured_passes_are_those_of_a_real_loop(tmp_path: Path) -> None:
    made, tokenizer, _ = decoder(tmp_path)
    trained = mtp.fresh(made, mtp.MTPConfig(2, 96, 270), range(270), 0).requires_grad_(False)
    prompts = [ids_like(tokenizer, 1, n, seed=n)[0].tolist() for n in (9, 17)]
    found = measure(made, trained, prompts, max_tokens=10, end_ids=frozenset(), rows=1, beyond=2)
    assert [len(result.kept) for result in found] == [2, 3, 4]
    for result in found:
        assert result.tokens == 20
        assert result.passes == _passes(made, trained, prompts, len(result.kept))
        assert sorted(result.kept, reverse=True) == list(result.kept)


def _passes(made: Decoder, trained: mtp.MTP, prompts: list[list[int]], drafted: int) -> int:
    """Of a loop that drafts so many tokens for each pass."""
    passes = 0
    head = trained.head_rows(made)
    for prompt, answer in zip(prompts, generate(made, prompts, max_tokens=10, end_ids=frozenset()), strict=True):
        text = list(prompt)
        while len(text) < len(prompt) + 10:
            drafts: list[int] = []
            for k in range(drafted):
                ids = torch.tensor([[*text, *drafts]])
                hidden = made.hidden(ids)
                state = trained.states(made, ids, hidden, drafted - 2)[k][0, len(text) - 2]
                drafts.append(int(trained.ids[trained.logits(k, state, head).argmax()]))
            for draft in (*drafts, -1):
                following = answer[len(text) - len(prompt)] if len(text) < len(prompt) + 10 else -2
                text.append(following)
                if draft != following:
                    break
            passes += 1
    return passes

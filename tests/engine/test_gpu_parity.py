"""On a GPU a model writes what it writes on a CPU, token by token: the default one, and random weights of its shape."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest
import torch

import model
from assistant.bench.corpus import standard_library
from assistant.bench.random_weights import random_decoder
from model.engine import Fixed, Greedy, LookupDraft, decode
from model.engine.graph_scorer import GraphScorer
from validators import AcceptAll

PROMPTS, TOKENS, PROMPT = 64, 128, 200
PIECES = 4
"""A piece is for a machine that is lent for minutes: `-k "piece-0"` and so on; a CPU takes a while in fp32."""

pieces = pytest.mark.parametrize("piece", [pytest.param(i, id=f"piece-{i}") for i in range(PIECES)])


@pytest.mark.gpu
@pytest.mark.model
@pytest.mark.slow
@pieces
def test_blocks_on_a_gpu_are_the_cpus_single_tokens(default_model: Path, piece: int) -> None:
    tokenizer = model.load_tokenizer(default_model)
    encoded = (tokenizer.encode(file.text[: 20 * PROMPT])[:PROMPT] for file in standard_library(4 * PROMPTS))
    prompts = list(islice((ids for ids in encoded if len(ids) == PROMPT), PROMPTS))
    assert len(prompts) == PROMPTS
    devices = (model.load(default_model, device=device, dtype="float32") for device in ("cuda", "cpu"))
    check(*devices, prompts[piece::PIECES])


@pytest.mark.gpu
@pytest.mark.slow
@pieces
def test_random_weights_on_a_gpu_are_the_cpus(piece: int) -> None:
    """Needs no model file; what random weights write is decided as narrowly as anything."""
    on_gpu, on_cpu = (random_decoder("float32", device) for device in ("cuda", "cpu"))
    on_cpu.load_state_dict({name: weight.cpu() for name, weight in on_gpu.state_dict().items()})
    generators = [random.Random(i) for i in range(piece, PROMPTS, PIECES)]
    check(on_gpu, on_cpu, [[each.randrange(150_000) for _ in range(PROMPT)] for each in generators])


def check(on_gpu: model.Decoder, on_cpu: model.Decoder, prompts: list[list[int]]) -> None:
    """fp32 on both. One pass of the CPU over a whole text says what it would have written at each place of it."""
    scorer = GraphScorer(on_gpu, 512)
    for prompt in prompts:
        steps = decode(
            prompt,
            scorer=scorer,
            validator=AcceptAll(),
            state=None,
            drafter=LookupDraft(),
            order=Greedy(),
            end_ids=(),
            max_tokens=TOKENS,
            window=Fixed(2),
        )
        written = [token for step in steps for token in step.ids]
        with torch.inference_mode():
            hidden = on_cpu.hidden(torch.tensor([[*prompt, *written]]))[0, PROMPT - 1 : -1]
            expected = on_cpu.head(hidden).argmax(-1).tolist()
        assert written == expected

"""On a GPU, the default model writes what it writes on a CPU, token for token."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

import model
from assistant.bench.corpus import standard_library
from model.engine import Fixed, Greedy, LookupDraft, decode
from model.engine.graph_scorer import GraphScorer
from validators import AcceptAll

PROMPTS, TOKENS, PROMPT = 64, 128, 200


@pytest.mark.gpu
@pytest.mark.model
@pytest.mark.slow
def test_blocks_on_a_gpu_are_the_cpus_single_tokens(default_model: Path) -> None:
    """fp32 on both. One pass of the CPU over a whole text says what it would have written at each place of it."""
    tokenizer = model.load_tokenizer(default_model)
    scorer = GraphScorer(model.load(default_model, device="cuda", dtype="float32"), 512)
    plain = model.load(default_model, device="cpu", dtype="float32")
    encoded = (tokenizer.encode(file.text[: 20 * PROMPT])[:PROMPT] for file in standard_library(4 * PROMPTS))
    prompts = list(islice((ids for ids in encoded if len(ids) == PROMPT), PROMPTS))
    assert len(prompts) == PROMPTS
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
            hidden = plain.hidden(torch.tensor([[*prompt, *written]]))[0, PROMPT - 1 : -1]
            expected = plain.head(hidden).argmax(-1).tolist()
        assert written == expected

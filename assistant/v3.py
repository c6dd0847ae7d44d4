"""The interface of the article that this project began with, as it was written there and doing what it says.

    model = V3Model(num_experts=16, experts_per_group=4, quantization="int4")
    model.set_routing_strategy(threshold=0.7, fallback="dense")
    tokens = model.generate_next_batch(3)
    model.validate_generation(tokens)

The article's loop parses the tokens by themselves, and so refuses every program that is not finished yet. Here they are
validated as what they are: the next part of a text. `examples/validation_loop.py` is the loop with that corrected.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import model
from assistant.errors import UsageProblem, ViableError
from assistant.store.shipped import SMALL, shipped
from model import companions
from model.config import Experts, Latent, ModelConfig, Rope, own
from model.engine import Fixed, Greedy, decode
from model.engine.contracts import Drafter, Validator
from model.engine.drafters import NoDraft
from model.engine.scorer import CachedScorer
from model.feed_forward.moe import activated, set_routing_strategy
from model.fresh import fresh
from model.loaders.sources import open_source
from model.saving import save
from validators import AcceptAll, PythonValidator, TokenState, TokenValidator

QUANTISATIONS = {"int4": "int4", "int8": "int8", "bf16": "bfloat16", "none": "float32"}


class V3Model:
    """A model with experts, the text that it is writing, and the validator of that text."""

    def __init__(
        self,
        num_experts: int = 16,
        experts_per_group: int = 4,
        quantization: str = "int4",
        *,
        path: Path | None = None,
        capacity: int = 1024,
        seed: int = 0,
    ) -> None:
        """path: a model's folder; without one, the model that comes with Viable, if it has as many experts.

        Where that has not been trained yet, or has other experts, the weights are random, from `seed`: everything
        works, and what is written makes no sense. capacity: tokens of text.
        Raises a ViableError that names what is wrong with the numbers, the name or the folder.
        """
        if quantization not in QUANTISATIONS:
            raise UsageProblem(f"no quantization is called '{quantization}' (known: {', '.join(QUANTISATIONS)})")
        dtype = QUANTISATIONS[quantization]
        try:
            if path is None:
                config = _config(num_experts, experts_per_group)
                path = _shipped(config)
            if path is None:
                with tempfile.TemporaryDirectory() as folder:
                    save(config, dict(fresh(config, seed).named_parameters()), Path(folder))
                    self._decoder = model.load(folder, dtype=dtype)
                self._tokenizer: model.Tokenizer = model.ByteTokenizer()
            else:
                self._decoder = model.load(path, dtype=dtype)
                self._tokenizer = model.load_tokenizer(path)
        except model.ModelError as error:
            raise ViableError(str(error)) from None
        self.trained = path is not None
        _check(self._decoder.config, num_experts, experts_per_group)
        self._scorer = CachedScorer(self._decoder, min(capacity, self._decoder.config.context_length))
        self._drafter: Drafter = NoDraft()
        if path is not None:
            self._drafter = companions.mtp_drafter(
                self._decoder, path, None, self._scorer, self._scorer.capacity, self._decoder.config.draft_depth
            )
        self._python = TokenValidator(PythonValidator(), self._tokenizer.pieces)
        self.begin("")

    def begin(self, text: str) -> None:
        """Write on from `text`, which is the beginning of a program."""
        self._state: TokenState[Any] = self._python.start(text)
        # There is no next token without one before it: an empty text follows the end of another.
        self._ids = self._tokenizer.encode(text) or sorted(self._tokenizer.end_ids)[:1]
        self._text = text
        self.tokens: list[int] = []

    @property
    def text(self) -> str:
        """All that was begun with and accepted."""
        return self._text + self._tokenizer.decode(self.tokens)

    @property
    def active_experts(self) -> float:
        """Routed experts that a token was given, on average over all tokens and layers so far."""
        return activated(self._decoder)

    def set_routing_strategy(self, threshold: float = 0.7, fallback: str = "dense") -> None:
        """Give a token the fewest experts that have `threshold` of the router's mass.

        Where as many as are allowed do not have it, the router is not sure: fallback "dense" takes all experts,
        "topk" as many as are allowed. A threshold of 0 always takes as many as are allowed.
        """
        try:
            set_routing_strategy(self._decoder, threshold, fallback)
        except model.ModelError as error:
            raise UsageProblem(str(error)) from None
        self._scorer.truncate(0)  # what was computed for other experts is of no use

    def generate_next_batch(self, count: int = 3) -> list[int]:
        """The next `count` tokens that the model would write, which nothing has been said about yet.

        Fewer where the model would end the text or its capacity is reached. With multi-token modules a batch is
        drafted and checked in one pass.
        """
        return self._written(count, AcceptAll(), 0)

    def generate_next_token(self) -> list[int]:
        """The likeliest token that the validator accepts; none where the text is best ended."""
        return self._written(1, self._python, self._state)

    def validate_generation(self, tokens: list[int]) -> bool:
        """Can the text with these tokens behind it still become a program that parses?"""
        return self._python.accept_block(self._state, tokens)[0] == len(tokens)

    def accept(self, tokens: list[int]) -> None:
        """Put tokens behind the text. They must be valid."""
        accepted, state = self._python.accept_block(self._state, tokens)
        if accepted < len(tokens):
            raise UsageProblem(f"token {tokens[accepted]} cannot follow: no program begins so")
        self._state = state
        self._ids += tokens
        self.tokens += tokens

    def _written(self, count: int, validator: Validator[Any], state: Any) -> list[int]:
        if count < 1:
            raise UsageProblem(f"a batch of {count} tokens")
        steps = decode(
            self._ids,
            scorer=self._scorer,
            validator=validator,
            state=state,
            drafter=self._drafter,
            order=Greedy(),
            end_ids=self._tokenizer.end_ids,
            max_tokens=count,
            window=Fixed(count - 1),
        )
        return [token for step in steps for token in step.ids]


def _config(experts: int, per_group: int) -> ModelConfig:
    """A small model with so many experts, for bytes."""
    if experts < 1 or per_group < 1 or experts % per_group:
        raise UsageProblem(f"{experts} experts do not make groups of {per_group}")
    groups = experts // per_group
    chosen_groups = max(1, groups // 2)
    chosen = min(4, chosen_groups * per_group)
    return ModelConfig(
        family=own.FAMILY,
        vocab_size=len(model.ByteTokenizer().pieces),
        width=64,
        layers=2,
        heads=4,
        groups=4,
        head_width=32,
        feed_forward_width=96,
        context_length=4096,
        rope=Rope(10_000.0, 16),
        norm_eps=1e-6,
        tied_head=False,
        qkv_bias=False,
        out_bias=False,
        feed_forward_bias=False,
        attention="mla",
        latent=Latent(32, 16, 32),
        experts=Experts(
            experts,
            chosen,
            32,
            groups,
            chosen_groups,
            shared=1,
            group_score="best-two" if per_group > 1 else "best",
        ),
    )


def _shipped(wanted: ModelConfig) -> Path | None:
    """The folder of the model that comes with Viable, if it is there and has the experts that are wanted."""
    folder = shipped().get(SMALL)
    if folder is None:
        return None
    there, asked = open_source(folder).config.experts, wanted.experts
    assert asked is not None
    same = there is not None and (there.count, there.groups) == (asked.count, asked.groups)
    return folder if same else None


def _check(config: ModelConfig, experts: int, per_group: int) -> None:
    """UsageProblem if a model has other experts than were asked for."""
    there = config.experts
    if there is None:
        raise UsageProblem("this model has no experts")
    if (there.count, there.count // there.groups) != (experts, per_group):
        raise UsageProblem(
            f"this model has {there.count} experts in groups of {there.count // there.groups}, "
            f"not {experts} in groups of {per_group}"
        )

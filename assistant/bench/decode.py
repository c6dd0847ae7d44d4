"""`viable bench decode`: decoding on a GPU, one user, greedy.

Passes are timed from ids on the host to ids on the host. Where no trained drafter is there, blocks are timed with a
drafter whose share of right tokens is fixed: it knows the answer, and spoils it as often as a real one errs.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from assistant.bench.random_weights import random_decoder, random_modules
from assistant.errors import ViableError
from assistant.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from model import Decoder
    from model.engine import Draft, Window
    from model.engine.graph_scorer import GraphScorer

PROMPT, LONG = 512, 2048
"""Tokens of the two prompts."""
TOKENS = 256
CAPACITY = 4096
BANDWIDTH = 4.28e12
"""Bytes per second that a copy on one H200 reads and writes: what passes are compared with."""
Figures = dict[str, float]


class Prompt(NamedTuple):
    """A text to go on from. `text` is what the validator is told of it."""

    ids: list[int]
    text: str


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--dtype", default="auto", help="What the weights are kept in. [auto]")
@click.option("--rounds", default=20, help="Rounds of which the median counts. [20]")
@click.option("--shape-only", is_flag=True, help="Random weights of the default model's shape; no file is needed.")
@click.option(
    "--acceptance", type=(float, float), default=(0.72, 0.74), help="Right drafts, first and second. [.72 .74]"
)
@click.option("--block", type=click.IntRange(3), default=3, help="Tokens of a block that trained modules draft. [3]")
def command(model: str, dtype: str, rounds: int, shape_only: bool, acceptance: tuple[float, float], block: int) -> None:
    """Passes and validated tokens per second, first token, memory. Ends in one line of JSON."""
    import torch

    from model.engine.graph_scorer import GraphScorer

    if not torch.cuda.is_available():
        raise ViableError("no CUDA device is usable here; `viable bench decode_cpu` measures a processor")
    torch.cuda.reset_peak_memory_stats()
    if shape_only:
        decoder, prompts, long, validator = random_decoder(dtype), [_random_prompt(PROMPT)], _random_prompt(LONG), None
        torch.cuda.empty_cache()  # of what the weights were made from
        torch.cuda.reset_peak_memory_stats()
        scorer = GraphScorer(decoder, CAPACITY)
        trained = scorer.drafter(random_modules(decoder, CAPACITY), block - 1)
    else:
        decoder, prompts, long, validator = _real(model, dtype, rounds)
        scorer = GraphScorer(decoder, CAPACITY)
        trained = _trained(model, decoder, scorer, block - 1)
    scorer.warm()
    read = read_by_a_pass(scorer) / BANDWIDTH
    prompt = prompts[0]
    figures: Figures = {}
    for rows in (1, 3):
        figures[f"passes_per_second_{rows}_rows"] = rate = passes(scorer, prompt.ids, rows, rounds)
        figures[f"share_of_bandwidth_{rows}_rows"] = rate * read
    for name, each in (("512", prompt), ("2048", long)):
        figures[f"ms_first_token_{name}"] = first_token(scorer, each.ids, rounds)
    figures["ms_next_suggestion_2048"] = next_suggestion(scorer, long.ids, rounds)
    if trained:
        figures |= drafted(scorer, prompt.ids, trained, rounds, block - 1)
    answers: list[list[int]] = []
    if validator is not None:
        found, answers = validated(scorer, prompts, validator, acceptance, trained, block)
        figures |= found
    figures["gb_allocated"] = torch.cuda.max_memory_allocated() / 1e9
    figures["gb_reserved"] = torch.cuda.max_memory_reserved() / 1e9
    if answers:
        del scorer, trained
        figures |= moving(model, decoder, prompts, validator, answers)
    for what, value in figures.items():
        click.echo(f"{what.replace('_', ' '):<36}{value:>12.3f}")
    about = {"bench": "decode", "model": "random weights" if shape_only else model, "dtype": dtype, "block": block}
    machine = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "acceptance": list(acceptance)}
    click.echo(json.dumps(about | machine | {what: round(value, 4) for what, value in figures.items()}))


def read_by_a_pass(scorer: GraphScorer) -> float:
    """Bytes of weights that one row reads: of experts, those of the chosen ones."""
    block = scorer._block
    of_layers = [part for layer in block.layers for half in layer for part in half.reads()]
    return sum(share * size(weight) for weight, share in ((block.projection.weight, 1.0), *of_layers))


def size(weight: Any) -> int:
    """Bytes of a weight."""
    from kernels.weights import stream

    of = stream(weight)
    parts = [of.numbers] if of.bits >= 16 else [of.numbers, of.factors]
    return sum(part.numel() * part.element_size() for part in parts)


def passes(scorer: GraphScorer, prompt: Sequence[int], rows: int, rounds: int) -> float:
    """Median passes per second: `rows` tokens in, the best id behind each of them out."""
    from model.engine import Greedy

    def once() -> float:
        scorer.truncate(0)
        scorer.extend(prompt, Greedy())
        block = list(prompt[:rows])
        begin = time.perf_counter()
        for _ in range(TOKENS):
            block = [next(iter(row)) for row in scorer.extend(block, Greedy())]
        return TOKENS / (time.perf_counter() - begin)

    return _median(once, rounds)


def first_token(scorer: GraphScorer, prompt: Sequence[int], rounds: int) -> float:
    """Median milliseconds from a prompt to its first token, nothing of it known."""

    def once() -> float:
        scorer.truncate(0)
        return _one(scorer, prompt)

    return _median(once, rounds)


def next_suggestion(scorer: GraphScorer, prompt: Sequence[int], rounds: int) -> float:
    """Median milliseconds to the first token where one more token was typed behind a known prompt."""

    def once() -> float:
        scorer.truncate(0)
        _one(scorer, prompt)
        return _one(scorer, [*prompt, prompt[0]])

    return _median(once, rounds)


def _one(scorer: GraphScorer, prompt: Sequence[int]) -> float:
    from model.engine import Fixed, Greedy, NoDraft, decode
    from validators import AcceptAll

    begin = time.perf_counter()
    (*_, _step) = decode(
        prompt,
        scorer=scorer,
        validator=AcceptAll(),
        state=None,
        drafter=NoDraft(),
        order=Greedy(),
        end_ids=(),
        max_tokens=1,
        window=Fixed(0),
    )
    return 1000 * (time.perf_counter() - begin)


def drafted(scorer: GraphScorer, prompt: Sequence[int], trained: Any, rounds: int, drafts: int = 2) -> Figures:
    """Blocks that draft the next, one after the other, and what of a block's time is not the GPU's."""
    from model.engine import Greedy

    def once() -> float:
        scorer.truncate(0)
        scorer.extend(prompt, Greedy())
        ids = [*prompt, prompt[0]]
        begin, passes, draft = 0.0, 0, ()
        while passes < TOKENS // 2:
            if passes == 4:  # behind what follows a prompt
                begin = time.perf_counter()
            draft = trained.propose(ids, drafts).ids
            block = [ids[-1], *draft]
            for token, row in zip([*block[1:], None], scorer.extend(block, Greedy()), strict=True):
                ids.append(next(iter(row)))
                if ids[-1] != token:
                    break
            scorer.truncate(len(ids) - 1)
            passes += 1
        return 1e6 * (time.perf_counter() - begin) / (passes - 4)

    return {"us_drafting_block": _median(once, rounds), "us_drafting_block_gpu": scorer.block_time()}


def validated(
    scorer: GraphScorer,
    prompts: Sequence[Prompt],
    validator: Any,
    acceptance: tuple[float, float],
    trained: Any,
    block: int = 3,
) -> tuple[Figures, list[list[int]]]:
    """Tokens per second through the whole loop, single tokens and blocks, and how long the validator took of it; and
    what was written.

    Medians over the prompts: how much of a draft is right depends on the text.
    """
    from model.engine import Fixed

    runs: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    _text(scorer, prompts[0], validator, None, Fixed(0))
    answers: list[list[int]] = []
    in_blocks = f"{block}_token"
    for number, prompt in enumerate(prompts):
        answer: list[int] = []
        for name in ("1_token", "3_token_fixed", *([in_blocks] if trained else [])):
            fixed = FixedAcceptance([*prompt.ids, *answer], acceptance, number)
            drafter, drafts = {"1_token": (None, 0), "3_token_fixed": (fixed, 2), in_blocks: (trained, block - 1)}[name]
            ids, seconds, judging, kept = _text(scorer, prompt, validator, drafter, Fixed(drafts))
            answer = answer or ids
            if ids != answer:
                raise ViableError("blocks gave another text than single tokens")
            runs[name].append((1 / seconds, 1e6 * judging, kept))
        answers.append(answer)
    figures: Figures = {}
    for name, found in runs.items():
        rate, judged, kept = (statistics.median(column) for column in zip(*found, strict=True))
        figures[f"validated_tokens_per_second_{name}_blocks"] = rate
        figures[f"validator_us_per_token_{name}_blocks"] = judged
        figures[f"tokens_per_pass_{name}_blocks"] = kept
    if trained:
        passing = statistics.median(1e6 * kept / rate for rate, _, kept in runs[in_blocks])
        judging = statistics.median(judged * kept for _, judged, kept in runs[in_blocks])
        exposed = max(passing - scorer.block_time(), 0.0)
        figures["host_us_per_block_exposed"] = exposed
        figures["validator_us_per_block_hidden"] = max(judging - exposed, 0.0)
    return figures, answers


def moving(
    name: str, decoder: Decoder, prompts: Sequence[Prompt], validator: Any, answers: Sequence[Sequence[int]]
) -> Figures:
    """Tokens per second with the drafters and the window that a session has: repetition, too, in the same blocks."""
    from assistant import store
    from assistant.drafting import BOLDNESS, drafters
    from assistant.settings import Settings
    from model.engine.graph_scorer import GraphScorer

    settings = Settings()
    scorer = GraphScorer(decoder, CAPACITY)
    (drafter,) = drafters(settings, store.resolve(name), decoder, [scorer], CAPACITY)
    scorer.warm()
    window = BOLDNESS["cuda"].window(settings.block)
    _text(scorer, prompts[0], validator, drafter, window)
    runs = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids, seconds, _, kept = _text(scorer, prompt, validator, drafter, window)
        if ids != answer:
            raise ViableError("blocks with repetition gave another text than single tokens")
        runs.append((1 / seconds, kept))
    rate, kept = (statistics.median(column) for column in zip(*runs, strict=True))
    return {"validated_tokens_per_second_moving": rate, "tokens_per_pass_moving": kept}


def _text(
    scorer: GraphScorer, prompt: Prompt, validator: Any, drafter: Any, window: Window
) -> tuple[list[int], float, float, float]:
    """The text; behind the first pass, seconds per token, those that the validator took, and tokens per pass."""
    from model.engine import Greedy, NoDraft, decode

    timed = Timed(validator)
    ids: list[int] = []
    begin, judged, first, passes = 0.0, 0.0, 0, 0
    for step in decode(
        prompt.ids,
        scorer=scorer,
        validator=timed,
        state=validator.start(prompt.text),
        drafter=drafter or NoDraft(),
        order=Greedy(),
        end_ids=(),
        max_tokens=TOKENS + 1,
        window=window,
    ):
        if not begin:
            begin, judged, first = time.perf_counter(), timed.seconds, len(step.ids)
        ids += step.ids
        passes += bool(step.ids)
    counted = len(ids) - first
    seconds = time.perf_counter() - begin
    return ids, seconds / counted, (timed.seconds - judged) / counted, counted / (passes - 1)


class Timed:
    """A validator, and the seconds that it took."""

    def __init__(self, validator: Any) -> None:
        self._validator = validator
        self.seconds = 0.0

    def accept_block(self, state: Any, ids: Sequence[int]) -> tuple[int, Any]:
        begin = time.perf_counter()
        found: tuple[int, Any] = self._validator.accept_block(state, ids)
        self.seconds += time.perf_counter() - begin
        return found

    def complete(self, state: Any) -> bool:
        return bool(self._validator.complete(state))


class FixedAcceptance:
    """Proposes the right tokens, each spoilt with a fixed chance; a draft ends behind a spoilt one."""

    def __init__(self, answer: Sequence[int], shares: Sequence[float], seed: int) -> None:
        self._answer = answer
        self._shares = shares
        self._random = random.Random(seed)

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        from model.engine import Draft

        draft: list[int] = []
        for share, token in zip(self._shares, self._answer[len(ids) : len(ids) + width], strict=False):
            right = self._random.random() < share
            draft.append(token if right else self._answer[0])
            if not right:
                break
        return Draft(tuple(draft), "fixed")


def _trained(name: str, decoder: Decoder, scorer: GraphScorer, drafts: int) -> Any:
    """The drafter that was trained for a model; None if there is none."""
    from assistant import store
    from model import companions
    from model.engine.graph_drafts import GraphDraft

    found = store.resolve(name)
    drafter = companions.mtp_drafter(decoder, found.path, found.sha256, scorer, CAPACITY, drafts)
    return drafter if isinstance(drafter, GraphDraft) else None


def _random_prompt(count: int) -> Prompt:
    return Prompt([random.Random(count).randrange(100_000) for _ in range(count)], "")


def _real(name: str, dtype: str, count: int) -> tuple[Decoder, list[Prompt], Prompt, Any]:
    """The model, `count` prompts out of as many files of the standard library and a long one, and its validator."""
    import model
    from assistant import store
    from assistant.bench.corpus import standard_library
    from validators import PythonValidator, TokenValidator

    path = store.resolve(name).path
    tokenizer = model.load_tokenizer(path)

    def prompt(text: str, tokens: int) -> Prompt:
        ids = tokenizer.encode(text)[:tokens]
        return Prompt(ids, b"".join(tokenizer.pieces[token] or b"" for token in ids).decode("utf-8", "ignore"))

    # Long enough: a token of such code has about four characters, seldom six.
    texts = [file.text for file in standard_library(4 * count) if len(file.text) > 6 * PROMPT][:count]
    validator = TokenValidator(PythonValidator(), tokenizer.pieces)
    prompts = [prompt(text, PROMPT) for text in texts]
    return model.load(path, device="cuda", dtype=dtype), prompts, prompt("\n".join(texts), LONG), validator


def _median(once: Callable[[], float], rounds: int) -> float:
    """The median of `rounds`, after one that does not count."""
    once()
    return statistics.median(once() for _ in range(rounds))


if __name__ == "__main__":
    command()

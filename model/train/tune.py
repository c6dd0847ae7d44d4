"""Two-stage fine-tuning on one code base: attention first, then what knows positions.

Stage 1 trains the attention's matrices at 3e-5, stage 2 the rows of them that are turned by position (the rotary part
of queries and keys) at 1e-5. It is the trainer of the small model with two parameter groups, one after the other; the
rest of the network, the modules behind it too, stays as it is. Where that is not enough, a stage before them trains all
but the modules. A share of the files is kept back, to say what the
training was worth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.small.network import MLA, Network
from model.tokenizer import Tokenizer
from model.train.corpus import Recipe
from model.train.loop import Plan, Report, run
from model.train.select import Document, read
from model.train.small import SmallPlan, SmallTask
from model.train.streams import Gaps, Streams, encode_gaps, encode_plain


@dataclass(frozen=True)
class Stage:
    """Which parameters learn, and how fast."""

    name: str
    rate: float
    share: float
    """Of all steps."""


STAGES = (Stage("attention", 3e-5, 0.7), Stage("positions", 1e-5, 0.3))


def behind(whole: Stage, stages: Sequence[Stage]) -> list[Stage]:
    """`whole` and then `stages`, in what it leaves of the steps."""
    return [whole, *(replace(stage, share=stage.share * (1 - whole.share)) for stage in stages)]


@dataclass(frozen=True)
class Files:
    """A code base in two parts."""

    trained: tuple[Document, ...]
    kept_back: tuple[Document, ...]


def collect(folder: Path, kept_back: float) -> Files:
    """The Python files under `folder` that are readable and valid; a file's name alone decides which part it is in."""
    parts: tuple[list[Document], list[Document]] = ([], [])
    for path in sorted(folder.rglob("*.py")):
        inner = path.relative_to(folder)
        if any(part.startswith(".") or part in ("node_modules", "__pycache__") for part in inner.parts):
            continue
        found = read(path)
        if not isinstance(found, str):
            digest = hashlib.sha256(inner.as_posix().encode()).digest()
            back = int.from_bytes(digest[:4], "big") / 2**32 < kept_back
            parts[back].append(Document(folder.name, inner.as_posix(), found.text, found.sha256))
    return Files(tuple(parts[0]), tuple(parts[1]))


def streams(files: Files, tokenizer: Tokenizer, recipe: Recipe, window: int) -> Streams:
    """The files as endless text, repeated until each stream fills a window."""
    documents, back = list(files.trained), list(files.kept_back)
    gaps = encode_gaps(tokenizer, recipe, documents, (0, len(documents)))
    return Streams(
        _filled(encode_plain(tokenizer, recipe, documents, (0, len(documents))), window),
        Gaps(*(_filled(part, window) for part in gaps)),
        encode_plain(tokenizer, recipe, back, (0, len(back))),
    )


def _filled(ids: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    return np.tile(ids, -(-size // max(len(ids), 1))) if len(ids) < size else ids


class StageTask(SmallTask):
    """The trainer's task for one stage: all other parameters, and all other rows, stay as they are."""

    def __init__(self, network: Network, data: Streams, plan: SmallPlan, tokenizer: Tokenizer, stage: str) -> None:
        super().__init__(network, data, plan, tokenizer)
        self._trained = trained(network, stage)
        # What does not change came out of four bits already.
        mine = {id(parameter) for parameter, _ in self._trained}
        self._matrices = [matrix for matrix in self._matrices if id(matrix) in mine]
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        self._hooks = []
        for parameter, rows in self._trained:
            parameter.requires_grad_(True)
            self._hooks.append(parameter.register_hook(_Masked(rows)))

    def parameters(self) -> Iterable[nn.Parameter]:
        return [parameter for parameter, _ in self._trained]

    def measure(self) -> Mapping[str, float]:
        """Nothing: who tunes measures before and after."""
        return {}

    def done(self) -> None:
        """Take the masks off again."""
        for hook in self._hooks:
            hook.remove()


class _Masked:
    """Keeps the gradient of some rows."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def __call__(self, gradient: Tensor) -> Tensor:
        return gradient * self._rows.view(-1, *(1 for _ in gradient.shape[1:]))


def trained(network: Network, stage: str) -> list[tuple[nn.Parameter, Tensor]]:
    """The parameters of a stage, and which of their rows learn, fp32 [N] of 0 and 1."""
    if stage == "everything":
        # A router's bias is not learned: the balance moves it.
        named = ((name, p) for name, p in network.named_parameters() if not name.startswith("modules_behind."))
        return [(p, torch.ones(len(p), device=p.device)) for name, p in named if not name.endswith("feed_forward.bias")]
    found = []
    for module in network.blocks.modules():
        if not isinstance(module, MLA):
            continue
        shape = module.shape
        head = torch.cat([torch.zeros(shape.nope), torch.ones(shape.rope)])
        turned = {
            "query": head.repeat(shape.heads),
            "down": torch.cat([torch.zeros(shape.latent), torch.ones(shape.rope)]),
        }
        if stage == "positions":
            found += [(module.get_parameter(f"{name}.weight"), rows) for name, rows in turned.items()]
        else:
            whole = [module.get_parameter(f"{name}.weight") for name in ("query", "down", "up", "out")]
            found += [(weight, torch.ones(weight.shape[0])) for weight in whole]
    return [(weight, rows.to(weight.device)) for weight, rows in found]


def tune(
    network: Network, data: Streams, tokenizer: Tokenizer, plan: SmallPlan, steps: int, folder: Path,
    report: Report | None = None, stages: Sequence[Stage] = STAGES,
) -> list[Mapping[str, object]]:  # fmt: skip
    """Train the stages one after the other; the last line of each stage's log. Goes on where it was stopped."""
    lines: list[Mapping[str, object]] = []
    for stage in stages:
        task = StageTask(network, data, plan, tokenizer, stage.name)
        count = max(round(steps * stage.share), 1)
        schedule = Plan(
            steps=count, rate=stage.rate, warmup=10, decay=0.0, every=max(count // 10, 1), measured=count + 1,
            save_seconds=15.0,
        )  # fmt: skip
        lines.append(run(task, schedule, folder / stage.name, report))
        task.done()
    return lines

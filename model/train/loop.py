"""The training loop: batches by number, a cosine schedule, checkpoints that survive a kill, a log of JSON lines.

A batch depends on the seed and its number alone, so a run that was killed and resumed makes the steps that the
uninterrupted run would have made. A run that is given minutes ends when they are over, whatever its speed was; what is
no number any more is never saved.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from model.errors import ModelUsageError

B = TypeVar("B")

WARM = 12
"""Steps that are not counted when the speed is measured."""
TIMED = 24
"""Steps after which a run that is given minutes first says how many steps they are."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast. Either `steps` or `minutes`, from which the steps follow as the speed becomes known."""

    steps: int = 0
    minutes: float = 0.0
    rate: float = 5e-4
    warmup: int = 60
    floor: float = 0.05
    """Of `rate`, at the end."""
    shape: str = "cosine"
    """How the rate goes on after the warm-up: "cosine", or "stable" with a straight line down at the end."""
    cooldown: float = 0.3
    """Of the steps: the straight line at the end of a stable phase; 0 leaves it to a later run, 1 is such a run."""
    decay: float = 0.01
    clip: float = 1.0
    every: int = 20
    """Steps between lines of the log."""
    measured: int = 400
    """Steps between measurements on held-out data."""
    save_seconds: float = 120.0
    """Between checkpoints."""

    def rate_at(self, step: int, steps: int) -> float:
        """Linear warm-up, then down to the floor: a cosine (Loshchilov & Hutter, 2017), or a stable phase and a line
        (Hu et al., "MiniCPM", 2024, section 4)."""
        warm = min(self.warmup, max(steps // 10, 1))
        if step < warm:
            return self.rate * (step + 1) / warm
        if self.shape == "stable":
            left = (steps - step) / max(self.cooldown * steps, 1e-9)
            return self.rate * (self.floor + (1 - self.floor) * min(left, 1.0))
        share = (step - warm) / max(steps - warm, 1)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


class Task(Protocol[B]):
    """What is learned."""

    def parameters(self) -> Iterable[nn.Parameter]: ...

    def batch(self, step: int) -> B:
        """The batch of a step, on the CPU; called from another thread."""
        ...

    def tokens(self, batch: B) -> int: ...

    def loss(self, batch: B, progress: float) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The scalar to minimise, and scalars for the log. `progress` goes from 0 to 1."""
        ...

    def weights(self, progress: float) -> AbstractContextManager[None]:
        """Holds while the loss and its gradients are computed: a place to round the weights for that long."""
        ...

    def measure(self) -> Mapping[str, float]:
        """What is known on held-out data; asked for every `Plan.measured` steps and at the end."""
        ...


Report = Callable[[Mapping[str, Any]], None]


Make = Callable[[Task[Any], Plan], torch.optim.Optimizer]


def adamw(task: Task[Any], plan: Plan) -> torch.optim.Optimizer:
    """One group of all parameters."""
    parameters = list(task.parameters())
    fused = any(p.is_cuda for p in parameters)
    return torch.optim.AdamW(parameters, lr=plan.rate, betas=(0.9, 0.95), weight_decay=plan.decay, fused=fused)


class Log:
    """JSON lines. Lines of steps that a resumed run makes again are dropped."""

    def __init__(self, path: Path, first: int) -> None:
        kept = []
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if json.loads(line).get("step", 0) <= first]
        path.write_text("".join(line + "\n" for line in kept))
        self.last: dict[str, Any] = json.loads(kept[-1]) if kept else {}
        self._path = path

    def add(self, line: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def run(
    task: Task[B], plan: Plan, folder: Path, report: Report | None = None, optimiser: Make = adamw
) -> dict[str, Any]:
    """Train; returns the last line of the log. Goes on from `folder`/checkpoint.pt where there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    return _Run(task, plan, folder, report or _to_stderr, optimiser).go()


def _to_stderr(line: Mapping[str, Any]) -> None:
    values = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in line.items())
    print("  ".join(values), file=sys.stderr, flush=True)


class _Run(Generic[B]):
    def __init__(self, task: Task[B], plan: Plan, folder: Path, report: Report, optimiser: Make) -> None:
        self.task, self.plan, self.report = task, plan, report
        self.parameters = list(task.parameters())
        self.checkpoint = folder / "checkpoint.pt"
        self.optimiser = optimiser(task, plan)
        self.step = 0
        self.steps = plan.steps
        self.tokens = 0
        self.seconds = 0.0
        self.lap = (0.0, 0)
        self.timed = 0.0
        self._resume()
        self.log = Log(folder / "log.jsonl", self.step)
        if not self.step:
            self.log.add({"step": 0, "plan": asdict(plan)})

    def go(self) -> dict[str, Any]:
        begin = saved = time.perf_counter()
        before, line = self.seconds, self.log.last  # which is what a run that was over already comes back with
        self.lap = (begin, self.tokens)
        first = self.step
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.task.batch, self.step)
            while not self.steps or self.step < self.steps:
                batch = coming.result()
                coming = pool.submit(self.task.batch, self.step + 1)
                found = self._advance(batch)
                self.seconds = before + time.perf_counter() - begin
                if self.plan.minutes and not self.plan.steps:
                    self._budget(self.step - first)
                if self.step % self.plan.every == 0 or self.step == self.steps:
                    line = self._line(found)
                    self.log.add(line)
                    self.report(line)
                if time.perf_counter() - saved > self.plan.save_seconds:
                    self._save()
                    saved = time.perf_counter()
        self._save()
        return line

    def _budget(self, done: int) -> None:
        """How many steps the minutes are, from what those took that this process has `done`; the first are slow."""
        left = self.plan.minutes * 60 - self.seconds
        if done == WARM:
            self.timed = _now()
        elif left <= 0:
            self.steps = self.step
        elif done == TIMED or (done > TIMED and self.step % self.plan.every == 0):
            each = (_now() - self.timed) / (done - WARM)
            self.steps = self.step + max(int(left / each), 1)

    def _line(self, found: Mapping[str, Tensor]) -> dict[str, Any]:
        line: dict[str, Any] = {"step": self.step, "steps": self.steps, "tokens": self.tokens}
        line |= {key: round(value.item(), 5) for key, value in found.items()}
        now, (then, tokens) = _now(), self.lap
        line |= {
            "rate": self.optimiser.param_groups[0]["lr"],
            "tokens_per_second": round((self.tokens - tokens) / (now - then)),
            "seconds": round(self.seconds, 1),
        }
        if self.step % self.plan.measured == 0 or self.step == self.steps:
            line |= self.task.measure()
        self.lap = (_now(), self.tokens)
        return line

    def _advance(self, batch: B) -> Mapping[str, Tensor]:
        rate = self.plan.rate_at(self.step, self.steps or 10**9)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        progress = self.step / self.steps if self.steps else 0.0
        self.optimiser.zero_grad(set_to_none=True)
        with self.task.weights(progress):
            loss, found = self.task.loss(batch, progress)
            torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.plan.clip)
        self.optimiser.step()
        self.step += 1
        self.tokens += self.task.tokens(batch)
        return {"loss": loss.detach(), **found, "gradient": norm.detach()}

    def _save(self) -> None:
        if not all(bool(p.detach().isfinite().all()) for p in self.parameters):
            raise ModelUsageError(
                f"step {self.step} left weights that are no numbers: a lower rate may help; "
                f"{self.checkpoint} is from before, if it is there"
            )
        state = {
            "step": self.step,
            "steps": self.steps,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "plan": asdict(self.plan),
            "parameters": [p.detach() for p in self.parameters],
            "optimiser": self.optimiser.state_dict(),
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if state["plan"] != asdict(self.plan):
            now = asdict(self.plan)
            other = [f"{key} {old}, not {now.get(key)}" for key, old in state["plan"].items() if old != now.get(key)]
            raise ModelUsageError(
                f"{self.checkpoint} belongs to another plan ({', '.join(other)}): go on as it was begun, or elsewhere"
            )
        for parameter, value in zip(self.parameters, state["parameters"], strict=True):
            parameter.detach().copy_(value)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.steps = state["step"], state["steps"]
        self.tokens, self.seconds = state["tokens"], state["seconds"]


def _now() -> float:
    """Seconds, after all that was asked of the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()

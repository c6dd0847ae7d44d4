"""`python -m assistant.bench.gpu_day --out FILE`: all that waits for a GPU, checked and measured within ten minutes.

What is right comes before what is quick. Each part is a process of its own with a time limit, so that one that hangs or
crashes takes nothing else with it; what is left out when the time is up is said. The table comes last, and after every
part it is in FILE as JSON, with the end of what each part printed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

MINUTES = 9.5
LEAST = 20
"""Seconds without which no part is begun."""
ENOUGH = 6000
"""Characters that are kept of what a part printed."""
LEFT_OUT = "left out: no time"

PYTEST = (
    "-m",
    "pytest",
    "--device",
    "cuda",
    "-q",
    "--maxfail=5",
    "--no-header",
    "-p",
    "no:cacheprovider",
    "--tb=short",
)
SHAPE = ("-m", "assistant.bench.decode", "--shape-only", "--rounds", "5")
SMALL = ("-m", "assistant.bench.gpu_profile", "--model", "viable-small")


class Part(NamedTuple):
    """One process: what follows `python`, how long it may take, in seconds, and in which surroundings."""

    name: str
    arguments: tuple[str, ...]
    limit: int
    environment: Mapping[str, str] = {}


RIGHT = (
    Part("right: latent attention", (*PYTEST, "tests/kernels/test_pairs_latent.py"), 170),
    Part("right: experts", (*PYTEST, "tests/kernels/test_pairs_experts.py"), 170),
    Part("right: their scorer, drafts", (*PYTEST, "tests/engine/test_graph_latent.py",
         "tests/engine/test_graph_adapter.py"), 170),
    Part("right: rest of a layer", (*PYTEST, "tests/kernels/test_finish.py"), 170),
    Part("right: a block's ops", (*PYTEST, "tests/kernels/test_pairs_block.py"), 170),
    Part("right: scorer, drafts", (*PYTEST, "tests/engine/test_graph_scorer.py", "tests/engine/test_graph_drafts.py"),
         170),
)  # fmt: skip
"""All at once: most of their time is a compiler's."""

QUICK = (
    Part("small model, bf16", (*SMALL, "--dtype", "bfloat16"), 60),
    Part("small model, int4", (*SMALL, "--dtype", "int4"), 60),
    Part("layers by phase, bf16", ("-m", "assistant.bench.decode_phases", "--rows", "1,3"), 80),
    Part("layers by phase, int4", ("-m", "assistant.bench.decode_phases", "--rows", "1,3", "--dtype", "int4"), 80),
    Part("decoding, bf16", SHAPE, 60),
    Part("decoding, int4", (*SHAPE, "--dtype", "int4"), 60),
)
"""One after the other, in the order of what would be missed most."""


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where the results go, as JSON.")
@click.option("--minutes", default=MINUTES, help=f"Time for all of it. [{MINUTES}]")
@click.option("--only", default="", help="Only parts whose name has this in it.")
def command(out: Path | None, minutes: float, only: str) -> None:
    """Run every part, then print a table."""
    import torch

    if not torch.cuda.is_available():
        raise click.ClickException("no CUDA device is usable here; there is nothing to check or measure")
    end = time.monotonic() + 60 * minutes
    click.echo(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "parts": {}}
    for parts in (RIGHT, *((part,) for part in QUICK)):
        for name, done in together([part for part in parts if only in part.name], end):
            found["parts"][name] = done
            click.echo(f"{name}: {done['how']}, {done['seconds']} s", err=True)
            if out is not None:
                out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for line in table(found["parts"]):
        click.echo(line)


def together(parts: Sequence[Part], end: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Parts at the same time, until `end` of the monotonic clock, and how each of them went."""
    left = end - time.monotonic()
    if left < LEAST:
        yield from ((part.name, {"how": LEFT_OUT, "seconds": 0, "figures": {}, "printed": ""}) for part in parts)
        return
    running = [Running(part, left) for part in parts]
    try:
        for each in running:
            yield each.part.name, each.done()
    finally:
        for each in running:
            each.kill()


class Running:
    """A part under way; what it prints goes into a file, which never makes it wait."""

    def __init__(self, part: Part, left: float) -> None:
        self.part = part
        self._begin = time.monotonic()
        self._end = self._begin + min(part.limit, left)
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 — closed by `done` or `kill`
        self._process = subprocess.Popen(
            [sys.executable, *part.arguments],
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(part.environment),
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def done(self) -> dict[str, Any]:
        """How it went, how long that took, what its last line of JSON says, and the end of what it printed."""
        try:
            code = self._process.wait(max(self._end - time.monotonic(), 0))
            how = "ok" if code == 0 else f"FAILED ({code})"
        except subprocess.TimeoutExpired:
            self._stop()
            how = "TIMED OUT"
        seconds = round(time.monotonic() - self._begin)
        with self._printed:
            self._printed.seek(0)
            printed = self._printed.read().decode(errors="replace")
        return {"how": how, "seconds": seconds, "figures": figures(printed), "printed": printed[-ENOUGH:]}

    def kill(self) -> None:
        """It, where it is not done, and what it prints into."""
        self._stop()
        self._printed.close()

    def _stop(self) -> None:
        """It, and what it started itself."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def figures(printed: str) -> dict[str, Any]:
    """The last line that is JSON."""
    for line in reversed(printed.splitlines()):
        if line.startswith("{"):
            try:
                found: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError:
                continue
            return found
    return {}


SHOWN = {
    "us_by_phase": "µs behind the start of a layer",
    "passes_per_second_1_rows": "passes/s, 1 row",
    "passes_per_second_3_rows": "passes/s, 3 rows",
    "ms_first_token_512": "ms first token, 512",
    "us_drafting_block": "µs drafting block",
    "gb_reserved": "GB reserved",
    "error_beside_plain": "error beside the plain decoder",
    "rows_independent": "rows apart equal rows together",
    "us_per_pass": "µs a pass, by rows",
    "tokens_per_second": "tokens/s",
    "tokens_per_pass": "tokens a pass",
    "drafts_with_the_block": "drafts with the block",
    "drafted_equals_single": "drafted text equals single tokens'",
    "bandwidth": "bytes/s, copied",
}


def table(parts: Mapping[str, Any]) -> Iterator[str]:
    """A line for each part and each figure; where a part failed, what it said last."""
    for name, part in parts.items():
        yield f"{name:<34}{part['how']:<20}{part['seconds']:>5} s"
        for path, value in flat(part["figures"]):
            *place, last = path
            if last in SHOWN:
                yield f"    {' '.join([*place, SHOWN[last]]):<44}{shown(value)}"
            elif "ops" in place:
                us, megabytes = value
                share = megabytes / us * 1e12 / part["figures"]["bandwidth"]
                yield f"    {place[-1] + ' row(s) ' + last:<44}{us:>8.2f} µs{megabytes:>9.3f} MB{100 * share:>6.0f} %"
        if part["how"].startswith(("FAILED", "TIMED")):
            yield from (f"    | {line}" for line in part["printed"].splitlines()[-6:])


def flat(found: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every figure and where it stands."""
    for name, value in found.items():
        if isinstance(value, dict) and name not in SHOWN:
            yield from flat(value, (*place, name))
        else:
            yield (*place, name), value


def shown(value: Any) -> str:
    """In few digits."""
    if isinstance(value, dict):
        return "  ".join(f"{name}: {shown(each)}" for name, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    command()

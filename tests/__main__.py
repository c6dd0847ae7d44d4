"""`python -m tests`: everything that must hold before a change goes in."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import click

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("format", "lint", "types", "tests", "agreement", "validator", "interpreter")
VALIDATOR, AGREEMENT = "tests/validators", "tests/validators/test_agreement.py"


class Stage(NamedTuple):
    """One tool, run as `python -m …` from the repository's root."""

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[STAGE]...")
@click.option("--model-tests", is_flag=True, help="Also tests that need the default model's weights.")
@click.option("--slow", is_flag=True, help="Also tests that take longer than ten seconds.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where tensors of the tests live.")
def main(names: tuple[str, ...], model_tests: bool, slow: bool, device: str) -> None:
    """Run all stages, or those that are named: format, lint, types, tests, agreement, validator, interpreter.

    The last one runs the kernels' tests once more under Triton's interpreter, in a process of its own because kernels
    are decorated for it on import. It runs beside others that like it keep one core busy: format, lint, types, the
    validator's tests, and its agreement with interpreters. All other tests run alone, since some of them measure. Each
    stage runs, whatever another one said; exit code 1 if any failed.
    """
    flags = [*["--model-tests"] * model_tests, *["--slow"] * slow]
    pytest = ("pytest", *flags, "--device", device)
    kernels = ("pytest", *["--slow"] * slow, "tests/kernels")
    stages = [
        Stage("format", ("ruff", "format", "--check", "."), {}),
        Stage("lint", ("ruff", "check", "."), {}),
        Stage("types", ("mypy",), {}),
        Stage("tests", (*pytest, f"--ignore={VALIDATOR}"), {}),
        Stage("agreement", (*pytest, AGREEMENT), {}),
        Stage("validator", (*pytest, VALIDATOR, f"--ignore={AGREEMENT}"), {}),
        Stage("interpreter", kernels, {"TRITON_INTERPRET": "1"}),
    ]
    wanted = [stage for stage in stages if stage.name in (names or NAMES)]
    beside = [stage for stage in wanted if stage.name != "tests"]
    with ThreadPoolExecutor(max_workers=2) as pool:
        # The longest first, so that it does not begin when the others are done.
        running = {stage.name: pool.submit(_kept, stage) for stage in reversed(beside)}
        results = {stage.name: _shown(stage, *running[stage.name].result()) for stage in beside}
    results |= {stage.name: _run(stage) for stage in wanted if stage.name == "tests"}
    click.echo("\n" + "\n".join(f"{name:<12} {result}" for name, result in results.items()))
    sys.exit(int(any(result.startswith("FAILED") for result in results.values())))


def _run(stage: Stage) -> str:
    """Run one stage on the terminal; a line that says how it went."""
    _headed(stage)
    if missing := _missing(stage):
        click.echo(missing)
        return missing
    return _went(stage, None)


def _kept(stage: Stage) -> tuple[str, bytes]:
    """The same beside other stages: how it went, and what it printed."""
    if missing := _missing(stage):
        return missing, f"{missing}\n".encode()
    with tempfile.TemporaryFile() as file:
        result = _went(stage, file)
        file.seek(0)
        return result, file.read()


def _shown(stage: Stage, result: str, printed: bytes) -> str:
    _headed(stage)
    click.echo(printed, nl=False)
    return result


def _headed(stage: Stage) -> None:
    command = " ".join((*(f"{name}={value}" for name, value in stage.environment.items()), *stage.arguments))
    click.secho(f"\n== {stage.name}: {command}", bold=True)


def _went(stage: Stage, output: IO[bytes] | None) -> str:
    """Run one stage, printing to `output` or the terminal; a line that says how it went."""
    begin = time.monotonic()
    environment = os.environ | stage.environment
    command = [sys.executable, "-m", *stage.arguments]
    code = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False).returncode
    seconds = time.monotonic() - begin
    return f"passed in {seconds:.1f} s" if code == 0 else f"FAILED in {seconds:.1f} s (exit code {code})"


def _missing(stage: Stage) -> str | None:
    """Why a stage cannot run. A tool that is missing is a failure; a machine without Triton is none."""
    if stage.name == "interpreter":
        if not any(Path(ROOT, "tests", "kernels").rglob("test_*.py")):
            return "not run: there are no tests of kernels"
        if not importlib.util.find_spec("triton"):
            return "not run: triton is not installed"
    if not importlib.util.find_spec(stage.arguments[0]):
        return f"FAILED: {stage.arguments[0]} is not installed; `pip install -e .[dev]` installs it"
    return None


if __name__ == "__main__":
    main()

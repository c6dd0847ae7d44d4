"""`viable convert`: a checkpoint's attention in another form."""

from __future__ import annotations

from pathlib import Path

import click

from assistant.errors import UsageProblem, ViableError


@click.command()
@click.argument("source", type=click.Path(path_type=Path), metavar="FOLDER")
@click.argument("target", type=click.Path(path_type=Path), metavar="NEW")
def command(source: Path, target: Path) -> None:
    """Write the model in FOLDER into NEW with latent attention instead of grouped-query attention.

    \b
    viable convert ~/models/Qwen2.5-Coder-0.5B ~/models/coder-latent
    viable complete app.py --at 12:5 --model ~/models/coder-latent

    FOLDER has config.json, safetensors and tokenizer.json of a Qwen2 or Llama model. Nothing is lost:
    the new model gives the same answers, from a cache with one row for each position and layer.
    """
    from model.convert import convert
    from model.errors import ModelError

    if not source.is_dir():
        raise UsageProblem(f"{source} is not a folder with config.json and safetensors")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageProblem(f"{target} is there already, and is not an empty folder")
    try:
        config = convert(source, target)
    except ModelError as error:
        raise ViableError(str(error)) from None
    assert config.latent is not None
    click.echo(
        f"{target}: a row of {config.latent.width + config.rope.width} numbers for each position and layer, "
        f"half of them keys, half of them values"
    )

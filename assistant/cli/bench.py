"""`viable bench`: the figures of this project, measured here."""

from __future__ import annotations

import click

from assistant.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    package="assistant.bench",
    summaries={
        "validator": "The validator: exactness, speed, memory.",
        "lsp": "The language server: start, typing, cancelling, memory, validity.",
        "decode": "Decoding on a GPU: passes, validated tokens, first token, memory.",
        "gpu_profile": "A pass on a GPU, op by op, beside the memory's bandwidth.",
        "decode_cpu": "Decoding on a processor, beside llama.cpp where that is installed.",
        "cpu_ops": "The products of a pass on a processor, by every backend, beside the memory's bandwidth.",
        "written": "Validated text as it is served, drafts and all; on a processor beside llama.cpp.",
    },
)
def command() -> None:
    """Measure what this project claims. Each command prints a table and ends in one line of JSON."""

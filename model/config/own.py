"""A configuration of this project's own checkpoints: every field of ModelConfig under its own name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from model.config.model import ModelConfig
from model.errors import BadModelFile

FAMILY = "viable"


def to_json(config: ModelConfig) -> dict[str, Any]:
    """The contents of `config.json` for a checkpoint whose tensors have our own names."""
    return {"model_type": FAMILY, "vocab_size": config.vocab_size, FAMILY: asdict(config) | {"family": FAMILY}}


def from_json(config: Mapping[str, Any]) -> ModelConfig:
    """What `to_json` wrote. BadModelFile names a field that is unknown, missing or of another type."""
    written = config.get(FAMILY)
    if not isinstance(written, dict):
        raise BadModelFile(f"config.json has no '{FAMILY}'")
    if unknown := sorted(set(written) - {field.name for field in fields(ModelConfig)}):
        raise BadModelFile(f"config.json: {FAMILY} has an unknown field {unknown[0]!r}")
    import msgspec  # not on every machine that trains or measures

    try:
        return msgspec.convert(written, ModelConfig)
    except msgspec.ValidationError as error:
        raise BadModelFile(f"config.json: {FAMILY}: {error}") from None

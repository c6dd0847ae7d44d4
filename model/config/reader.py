"""Typed look-ups in what a file says about itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from model.errors import BadModelFile, printable


class Reader:
    """Typed look-ups that name the key and the offending value."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def get(self, key: str, kind: type, default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise BadModelFile(f"{self.where}: {key} is {printable(repr(value))}, not a {kind.__name__}")
        return value

    def rope(self) -> Reader:
        """What a `config.json` says about rotary positions: transformers 5 keeps everything in `rope_parameters`."""
        values = self.get("rope_parameters", dict, None) or self.get("rope_scaling", dict, None) or {}
        return Reader(values, f"{self.where} rope parameters")

    def text(self, key: str) -> str:
        value = self.get(key, str, None)
        if value is None:
            raise BadModelFile(f"{self.where} has no {key}")
        return str(value)

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            problem = "is missing" if value is None else f"is {printable(repr(value))}, not a whole number"
            raise BadModelFile(f"{self.where}: {key} {problem}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            problem = "is missing" if value is None else f"is {printable(repr(value))}, not a number"
            raise BadModelFile(f"{self.where}: {key} {problem}")
        return float(value)

    def positive(self, key: str, default: float | None = None) -> float:
        value = self.number(key, default)
        if value <= 0:
            raise BadModelFile(f"{self.where}: {key} is {value}")
        return value

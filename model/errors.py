"""What can go wrong with a model, each a sentence for one line of a terminal.

ModelError
├── ModelNotFound       nothing at that path, or nothing that is a model
├── BadModelFile        truncated or inconsistent: the file does not hold what it says
├── UnsupportedModel    well-formed, but of a family, tensor kind or tokenizer that is not known here
├── BadWeights          tensors missing, unknown, mis-shaped, or holding NaN or infinity
└── ModelUsageError     asked for what this model or machine cannot do (device, dtype, length)
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of all errors that `model` raises on purpose; `str()` is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ModelNotFound(ModelError):
    """Nothing at that path, or nothing that is a model."""


class BadModelFile(ModelError):
    """The file is truncated or contradicts itself."""


class UnsupportedModel(ModelError):
    """The file is well-formed, but this project does not know its family, tensor kind or tokenizer."""


class BadWeights(ModelError):
    """Tensors are missing, unknown, mis-shaped, or hold NaN or infinity."""


class ModelUsageError(ModelError):
    """The caller asked for what this model or machine cannot do."""


def listed(names: list[str], limit: int = 4) -> str:
    """The first few of `names`, and how many more there are."""
    shown = ", ".join(printable(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def printable(name: str, limit: int = 80) -> str:
    """A name from a file, safe to print on one line of a terminal."""
    text = "".join(c if c.isprintable() else "�" for c in name[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "…"

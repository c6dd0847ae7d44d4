"""Models that are part of Viable: no cache, no network, and the last resort where both have nothing."""

from __future__ import annotations

from pathlib import Path

SMALL = "viable-small"

AUTO = "auto"
"""Asks for the default model, or, where that is not here and cannot be fetched, for the one that comes with Viable."""

FOLDER = Path(__file__).parents[2] / "model" / "weights"


def shipped(folder: Path = FOLDER) -> dict[str, Path]:
    """Their folders by name."""
    return {name: folder / name for name in (SMALL,) if (folder / name / "model.safetensors").is_file()}

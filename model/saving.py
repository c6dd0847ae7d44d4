"""This project's own checkpoints: a folder whose tensors have the names that they have in a decoder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from model.config import ModelConfig, own

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
CARRIED = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Of another checkpoint's `config.json`, what a tokenizer wants to know."""


def save(config: ModelConfig, tensors: Mapping[str, Tensor], folder: Path, like: Path | None = None) -> None:
    """Write `config.json` and `model.safetensors`; like: a folder whose tokenizer is copied beside them.

    `config.json` comes last and by renaming, so that a folder that was not finished is not taken for a model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    carried: dict[str, Any] = {}
    if like is not None:
        for name in TOKENIZER_FILES:
            if (like / name).exists():
                shutil.copyfile(like / name, folder / name)
        written = json.loads((like / "config.json").read_text(encoding="utf-8"))
        carried = {key: written[key] for key in CARRIED if key in written}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    unfinished = folder / "config.json.unfinished"
    unfinished.write_text(json.dumps(carried | own.to_json(config), indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, folder / "config.json")

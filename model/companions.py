"""What was trained for a model and comes with the project: found by the hash of the model's file.

A model that nothing was trained for gets objects that do nothing.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from safetensors import safe_open

from model import lora, mtp
from model.decoder import Decoder
from model.engine.contracts import Drafter
from model.engine.drafters import NoDraft
from model.engine.mtp_draft import MTPDraft, States
from model.loaders.pick import pick_rows
from model.mtp_rows import MTPRows

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "weights"


def attach_adapter(decoder: Decoder, sha256: str | None) -> lora.Switch:
    """Put the gap-filling adapter beside the layers of `decoder`; the switch turns it on and off."""
    path = _made_for(FOLDER / "fim-adapter.safetensors", sha256)
    if path is None:
        return lora.Switch()
    log.info("gap-filling adapter: %s", path.name)
    # Beside weights in fewer bits, sixteen are enough for a correction of them.
    return lora.attach(decoder, lora.load(path), decoder.rows)


def mtp_drafter(decoder: Decoder, model_path: Path, sha256: str | None, states: States, capacity: int) -> Drafter:
    """A drafter that reads the `states` of `decoder`, loaded from `model_path`, at up to `capacity` positions."""
    path = _made_for(FOLDER / "mtp.safetensors", sha256)
    if path is None:
        return NoDraft()
    log.info("drafting modules: %s", path.name)
    modules = mtp.load(path, decoder, decoder.rows)
    head = pick_rows(model_path, "projection.weight", modules.ids.cpu())
    return MTPDraft(MTPRows(modules, decoder, head, capacity), states, capacity)


def _made_for(path: Path, sha256: str | None) -> Path | None:
    """`path`, if it is there and was made for the model with this hash."""
    if sha256 is None or not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        about = json.loads((file.metadata() or {}).get("about", "{}"))
    return path if about.get("base") == sha256 else None

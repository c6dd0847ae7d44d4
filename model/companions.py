"""What was trained for a model and comes with the project: found by the hash of the model's file.

A model that nothing was trained for gets objects that do nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from model import lora, lora_bits, mtp
from model.decoder import Decoder
from model.engine.contracts import Drafter
from model.engine.drafters import NoDraft
from model.engine.graph_drafts import NO_REPEATS, Repeats
from model.engine.graph_scorer import GraphScorer
from model.engine.mtp_draft import MTPDraft, States
from model.loaders.drafting import has_drafts, load_drafts
from model.loaders.pick import matrices, pick_rows
from model.memory import lean
from model.mtp_rows import MTPRows, in_few_bits
from model.quantised import few_bits
from model.threads import one_thread

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "weights"

DRAFTED = {"cpu": 16_384}
"""By device, ids that are drafted at most. To choose among 32,768 takes two cores a millisecond longer, a fiftieth of a
pass, and one draft in a hundred that are kept is one of the others."""


@lean()
@one_thread()
def attach_adapter(decoder: Decoder, model_path: Path, sha256: str | None) -> lora.Switch:
    """Put the gap-filling adapter beside the layers of `decoder`, loaded from `model_path`, or into their weights.

    The switch turns it on and off.
    """
    path = _made_for(FOLDER / "fim-adapter.safetensors", sha256)
    if path is None:
        return lora.NoAdapter()
    log.info("gap-filling adapter: %s", path.name)
    if decoder.device.type == "cpu" and decoder.rows != decoder.dtype:  # its weights are in fewer bits
        return lora.attach_eight_bits(decoder, lora.load(path))
    if decoder.device.type != "cpu" and decoder.rows == decoder.dtype and not few_bits(decoder.projection):
        return lora.attach_merged(decoder, lora.load(path))  # what the fused kernels read is plain weights
    if decoder.device.type != "cpu" and lora_bits.fits(decoder):  # or weights in few bits
        whole = matrices(model_path)
        return lora_bits.attach_rounded(
            decoder, lora.load(path), lambda layer: whole[f"{layer}.weight"].read(torch.float32, decoder.device)
        )
    return lora.attach(decoder, lora.load(path), decoder.rows)


def mtp_drafter(
    decoder: Decoder, model_path: Path, sha256: str | None, states: States, capacity: int, longest: int
) -> Drafter:
    """A drafter of up to `longest` tokens that reads the `states` of `decoder`, loaded from `model_path`, at up to
    `capacity` positions."""
    return mtp_drafters(decoder, model_path, sha256, [states], capacity, longest)[0]


@lean()
@one_thread()
def mtp_drafters(
    decoder: Decoder,
    model_path: Path,
    sha256: str | None,
    states: Sequence[States],
    capacity: int,
    longest: int,
    repeats: Repeats = NO_REPEATS,
) -> list[Drafter]:
    """The same for several texts, each with `states` of its own; they share the modules' weights.

    repeats: what is proposed besides, by a `GraphDraft` alone.
    """
    path = _made_for(FOLDER / "mtp.safetensors", sha256)
    if has_drafts(model_path, decoder):
        log.info("drafting modules: the checkpoint's own")
        modules = load_drafts(model_path, decoder)
    elif path is not None:
        log.info("drafting modules: %s", path.name)
        small = in_few_bits if few_bits(decoder.projection) else None
        modules = mtp.load(path, decoder, decoder.rows, small)
    else:
        return [NoDraft() for _ in states]
    drafted = DRAFTED.get(decoder.device.type)
    head = pick_rows(model_path, "projection.weight", modules.ids[:drafted].cpu())
    rows = MTPRows(modules, decoder, head, capacity, drafted)
    first = states[0]
    if isinstance(first, GraphScorer) and (drafter := first.drafter(rows, longest, repeats)):
        log.info("drafts are computed with the block, by fused kernels")
        return [drafter]
    return [MTPDraft(rows.beside(), each, capacity, longest) for each in states]


def _made_for(path: Path, sha256: str | None) -> Path | None:
    """`path`, if it is there and was made for the model with this hash."""
    if sha256 is None or not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        about = json.loads((file.metadata() or {}).get("about", "{}"))
    return path if about.get("base") == sha256 else None

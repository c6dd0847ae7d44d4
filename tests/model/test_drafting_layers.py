"""Multi-token modules inside DeepSeek-V3's checkpoints, against transformers' on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.modeling_layers import MtpModel

import model
from model.engine.mtp_draft import MTPDraft
from model.feed_forward.moe import ExpertLinear
from model.layers import Linear
from model.loaders.drafting import load_drafts
from model.mtp_rows import MTPRows
from tests.model.architecture import relative_rms
from tests.model.test_deepseek import IDS, V3, DeepseekV3Config, write

VALUES = V3 | {"first_k_dense_replace": 0, "num_nextn_predict_layers": 2}


def with_modules(folder: Path) -> tuple[Any, Any]:
    """A checkpoint with two modules behind its three layers; transformers' model and modules."""
    theirs = write(folder, DeepseekV3Config, VALUES)
    modules = MtpModel(theirs, 2).eval()
    tensors = load_file(folder / "model.safetensors")
    with torch.no_grad():
        for name, weight in modules.layers.state_dict().items():
            size = 0.2 if weight.dim() == 1 else 2 * weight.shape[-1] ** -0.5
            weight.copy_(torch.randn(weight.shape) * size + ("norm" in name))
            depth, inner = name.split(".", 1)
            at = f"model.layers.{3 + int(depth)}"
            inner = inner.removeprefix("mtp_block.").replace("post_norm", "shared_head.norm")
            if inner.endswith("experts.gate_up_proj"):
                for e, (gate, up) in enumerate(rows.chunk(2) for rows in weight):
                    tensors[f"{at}.mlp.experts.{e}.gate_proj.weight"] = gate.contiguous()
                    tensors[f"{at}.mlp.experts.{e}.up_proj.weight"] = up.contiguous()
            elif inner.endswith("experts.down_proj"):
                tensors |= {f"{at}.mlp.experts.{e}.down_proj.weight": rows.clone() for e, rows in enumerate(weight)}
            else:
                tensors[f"{at}.{inner}"] = weight.contiguous()
        # As published, with copies of what belongs to the decoder.
        tensors["model.layers.3.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["model.layers.3.shared_head.head.weight"] = tensors["lm_head.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    return theirs, modules


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drafts")
    with_modules(path)
    return path


def test_every_depths_logits_are_those_of_transformers(tmp_path: Path) -> None:
    theirs, modules = with_modules(tmp_path)
    decoder = model.load(tmp_path, dtype="float32")
    ours = load_drafts(tmp_path, decoder)
    states = ours.states(decoder, IDS, decoder.hidden(IDS))
    with torch.no_grad():
        expected = theirs.model(IDS).last_hidden_state
        for k in (1, 2):
            time = IDS.shape[1] - k
            places = torch.arange(time).expand(2, -1)
            expected = modules.forward_layer(k - 1, expected[:, :time], places, None, input_ids=IDS[:, k:])
            logits = ours.logits(k - 1, states[k - 1], ours.head_rows(decoder))
            assert relative_rms(logits, theirs.lm_head(expected)) <= 1e-5


def test_they_draft_row_by_row_what_they_say_of_a_whole_text(folder: Path) -> None:
    decoder = model.load(folder, dtype="float32")
    modules = load_drafts(folder, decoder)
    rows = MTPRows(modules, decoder, [decoder_head(folder)], 160)
    ids = IDS[0].tolist()
    with torch.inference_mode():
        hidden = decoder.hidden(IDS[:1])
        state, found = hidden[0, :-1], []
        for depth in range(2):
            state = rows.advance(depth, state[: 130 - depth], ids[1 + depth :], 0)
            found.append(rows.best(depth, state[-1]))
        whole = modules.states(decoder, IDS[:1], hidden)
        for depth in range(2):
            logits = modules.logits(depth, whole[depth][:, -1:], modules.head_rows(decoder))
            assert found[depth] == int(logits.argmax())


@pytest.mark.parametrize(("dtype", "bound"), [("int8", 0.02), ("int4", 0.12)])
def test_beside_weights_in_fewer_bits_their_experts_have_fewer_too(folder: Path, dtype: str, bound: float) -> None:
    decoder = model.load(folder, dtype=dtype)
    modules = load_drafts(folder, decoder)
    exact = load_drafts(folder, model.load(folder, dtype="float32"))
    MTPRows(modules, decoder, [decoder_head(folder)], 160)
    assert not [part for part in modules.modules() if isinstance(part, Linear | ExpertLinear)]
    states = modules.states(decoder, IDS, decoder.hidden(IDS))
    assert all(torch.isfinite(state).all() for state in states)
    x = torch.randn(1, 5, 2 * decoder.config.width, generator=torch.Generator().manual_seed(3))
    for ours, theirs in zip(modules.depths, exact.depths, strict=True):
        assert relative_rms(ours.projection(x), theirs.projection(x)) <= bound  # type: ignore[operator]


def decoder_head(folder: Path) -> Tensor:
    return load_file(folder / "model.safetensors")["lm_head.weight"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.layers.4.hnorm.weight", "1 missing tensor: model.layers.4.hnorm.weight"),
        ("model.layers.3.mlp.experts.2.down_proj.weight", "missing tensor: model.layers.3.mlp.experts.2.down_proj"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, name: str, words: str) -> None:
    with_modules(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop(name)
    save_file(tensors, tmp_path / "model.safetensors")
    decoder = model.load(tmp_path, dtype="float32")  # without its modules the decoder is whole
    with pytest.raises(model.BadWeights, match=words):
        load_drafts(tmp_path, decoder)


def test_what_is_unknown_is_named(tmp_path: Path) -> None:
    with_modules(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.4.surprise"] = torch.ones(3)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(model.BadWeights, match=r"unknown tensor: model.layers.4.surprise"):
        load_drafts(tmp_path, model.load(tmp_path, dtype="float32"))
    config = json.loads((tmp_path / "config.json").read_text()) | {"num_nextn_predict_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(model.BadWeights, match=r"unknown tensors: model.layers.4"):
        model.load(tmp_path)


def test_a_checkpoint_without_modules_says_so(tmp_path: Path) -> None:
    write(tmp_path, DeepseekV3Config, VALUES)
    with pytest.raises(model.BadWeights, match="no multi-token modules"):
        load_drafts(tmp_path, model.load(tmp_path))


def test_they_serve_as_a_drafter(folder: Path) -> None:
    from model.engine import Fixed, Greedy, NoDraft, decode
    from model.engine.scorer import CachedScorer
    from validators import AcceptAll

    def written(drafter: Any, scorer: CachedScorer) -> list[int]:
        steps = decode(
            IDS[0, :20].tolist(),
            scorer=scorer,
            validator=AcceptAll(),
            state=None,
            drafter=drafter,
            order=Greedy(),
            end_ids=frozenset(),
            max_tokens=30,
            window=Fixed(2),
        )
        return [token for step in steps for token in step.ids]

    decoder = model.load(folder, dtype="float32")
    plain = written(NoDraft(), CachedScorer(decoder, 64))
    scorer = CachedScorer(decoder, 64)
    rows = MTPRows(load_drafts(folder, decoder), decoder, [decoder_head(folder)], 64)
    assert written(MTPDraft(rows, scorer, 64), scorer) == plain

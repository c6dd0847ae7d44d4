"""DeepSeek-V2's and V3's checkpoints: logits against transformers' on the same weights, and what is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, DeepseekV2Config, DeepseekV3Config

import model
from model.feed_forward.routing import Router
from tests.model.architecture import relative_rms

COMMON: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "kv_lora_rank": 48,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 512,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 40.0,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.707,
    "mscale_all_dim": 0.707,
    "original_max_position_embeddings": 64,
}
V3 = COMMON | {"n_group": 4, "topk_group": 2, "q_lora_rank": 40, "n_shared_experts": 1, "num_nextn_predict_layers": 0}
V2 = COMMON | {"n_shared_experts": 2, "topk_method": "greedy", "routed_scaling_factor": 1.5}
LITE = {"q_lora_rank": None, "n_group": 1, "topk_group": 1, "rope_parameters": YARN}
CASES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "v3": (DeepseekV3Config, V3),
    "v3-yarn": (DeepseekV3Config, V3 | {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}}),
    "v3-halves-biased": (DeepseekV3Config, V3 | {"rope_interleave": False, "attention_bias": True}),
    "v3-tied-all-experts": (DeepseekV3Config, V3 | {"tie_word_embeddings": True, "first_k_dense_replace": 0}),
    "v3-one-group": (DeepseekV3Config, V3 | {"n_group": 1, "topk_group": 1, "norm_topk_prob": False}),
    "v2-lite": (DeepseekV2Config, V2 | LITE),
    "v2": (
        DeepseekV2Config,
        V2 | {"q_lora_rank": 40, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2},
    ),
}
IDS = torch.randint(COMMON["vocab_size"], (2, 131), generator=torch.Generator().manual_seed(1))


class Case(NamedTuple):
    folder: Path
    logits: Tensor
    routed: list[Tensor]  # [tokens, chosen] for each layer that has experts


def write(folder: Path, kind: type[Any], values: dict[str, Any], scale: float = 2.0) -> Any:
    """A small random checkpoint, saved by transformers; returns its model. scale: of its matrices."""
    torch.manual_seed(0)
    theirs = AutoModelForCausalLM.from_config(kind(**values)).eval()
    with torch.no_grad():
        for name, weight in [*theirs.named_parameters(), *theirs.named_buffers()]:
            if "inv_freq" in name:
                continue
            size = 0.2 if weight.dim() == 1 else scale * weight.shape[-1] ** -0.5
            weight.copy_(torch.randn(weight.shape) * size + ("norm" in name))
    theirs.save_pretrained(folder)
    return theirs


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("deepseek")
    theirs = write(folder, *CASES[request.param])
    routed: list[Tensor] = []
    for name, module in theirs.named_modules():
        if name.endswith("mlp.gate"):
            module.register_forward_hook(lambda _module, _inputs, found: routed.append(found[2]))
    with torch.no_grad():
        return Case(folder, theirs(IDS).logits, routed)


def choices(decoder: model.Decoder) -> list[Tensor]:
    """Filled as the decoder runs."""
    found: list[Tensor] = []
    for module in decoder.modules():
        if isinstance(module, Router):
            module.register_forward_hook(lambda _module, _inputs, choice: found.append(choice.ids))
    return found


def test_logits_and_routing_are_those_of_transformers(case: Case) -> None:
    decoder = model.load(case.folder, dtype="float32")
    routed = choices(decoder)
    assert relative_rms(decoder(IDS), case.logits) <= 1e-5
    assert len(routed) == len(case.routed)
    for ours, theirs in zip(routed, case.routed, strict=True):
        assert torch.equal(ours.sort(-1).values, theirs.sort(-1).values)


def test_through_the_cache_equals_transformers(case: Case) -> None:
    decoder = model.load(case.folder, dtype="float32")
    cache = decoder.new_cache(256, batch=2)
    with torch.inference_mode():
        hidden = [decoder.hidden(part, cache) for part in IDS.split((64, 1, 3, 30, 33), 1)]
    assert relative_rms(decoder.head(torch.cat(hidden, 1)), case.logits) <= 1e-5


# Every expert is chosen: with some, rounding changes which, and random experts have nothing in common.
@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 0.03), ("int8", 0.05), ("int4", 0.3)])
@pytest.mark.parametrize("name", ["v3", "v2-lite"])
def test_fewer_bits_are_near(tmp_path: Path, name: str, dtype: str, bound: float) -> None:
    kind, values = CASES[name]
    every = {"num_experts_per_tok": 16, "n_group": 1, "topk_group": 1, "rope_parameters": None}
    theirs = write(tmp_path, kind, values | every, scale=1.0)
    # One text is too few to tell: it is 0.27 of one and 0.31 of another.
    texts = torch.randint(0, COMMON["vocab_size"], (12, 131), generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        assert relative_rms(model.load(tmp_path, dtype=dtype)(texts).float(), theirs(texts).logits) <= bound


def to_fp8(folder: Path, block: int = 128) -> dict[str, Tensor]:
    """Rewrite a checkpoint's matrices in FP8 blocks, as DeepSeek-V3's are; returns what they now stand for."""
    tensors = load_file(folder / "model.safetensors")
    written: dict[str, Tensor] = {}
    meant: dict[str, Tensor] = {}
    for name, weight in tensors.items():
        plain = weight.dim() < 2 or name.endswith(("embed_tokens.weight", "lm_head.weight", "mlp.gate.weight"))
        if plain:
            meant[name] = written[name] = weight
            continue
        rows, columns = (-(-size // block) for size in weight.shape)
        padded = torch.zeros(rows * block, columns * block)
        padded[: weight.shape[0], : weight.shape[1]] = weight
        blocks = padded.unflatten(1, (columns, block)).unflatten(0, (rows, block))
        factors = blocks.abs().amax((1, 3)) / 448
        codes = (blocks / factors[:, None, :, None]).to(torch.float8_e4m3fn)
        whole = (codes.float() * factors[:, None, :, None]).flatten(2).flatten(0, 1)
        meant[name] = whole[: weight.shape[0], : weight.shape[1]].contiguous()
        written[name] = codes.flatten(2).flatten(0, 1)[: weight.shape[0], : weight.shape[1]].contiguous()
        written[f"{name}_scale_inv"] = factors
    save_file(written, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [block, block]}
    (folder / "config.json").write_text(json.dumps(config))
    return meant


@pytest.mark.parametrize("block", [128, 16])
def test_fp8_blocks_are_what_they_stand_for(tmp_path: Path, block: int) -> None:
    theirs = write(tmp_path, *CASES["v3"])
    meant = to_fp8(tmp_path, block)
    plain = tmp_path / "plain"
    theirs.save_pretrained(plain)
    save_file(meant, plain / "model.safetensors")
    expected = model.load(plain, dtype="float32")(IDS)
    assert torch.equal(model.load(tmp_path, dtype="float32")(IDS), expected)
    with torch.no_grad():
        assert relative_rms(expected, theirs(IDS).logits) > 1e-3


def change(folder: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")


EXPERT = "model.layers.1.mlp.experts.3.up_proj.weight"
LATENT = "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.pop(EXPERT), rf"1 missing tensor: {EXPERT}"),
        (lambda t: t.pop("model.layers.2.mlp.gate.e_score_correction_bias"), "e_score_correction_bias"),
        (lambda t: t.update({EXPERT: t[EXPERT][:-1]}), rf"mis-shaped tensor: {EXPERT} has shape \[31, 64\]"),
        (lambda t: t.update({LATENT: t[LATENT][:48]}), rf"{LATENT} has shape \[48, 64\], not \[64"),
        (
            lambda t: t.update({"model.layers.1.mlp.experts.16.up_proj.weight": t[EXPERT] + 1}),
            r"unknown tensor: .*experts.16",
        ),
        (lambda t: t.update({"model.layers.3.enorm.weight": torch.ones(64)}), r"unknown tensor: model.layers.3.enorm"),
        (lambda t: t[EXPERT].view(-1)[5:6].fill_(float("nan")), rf"{EXPERT} holds NaN"),
        (lambda t: t[LATENT].view(-1)[-1:].fill_(float("inf")), rf"{LATENT} holds NaN or infinity"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "int4"])
def test_bad_checkpoints_are_refused_by_name(
    tmp_path: Path, edit: Callable[[dict[str, Tensor]], Any], words: str, dtype: str
) -> None:
    write(tmp_path, *CASES["v3"])
    change(tmp_path, edit)
    with pytest.raises(model.BadWeights, match=words):
        model.load(tmp_path, dtype=dtype)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topk_method": "luck"}, "topk_method 'luck' is not supported"),
        ({"moe_layer_freq": 2}, "moe_layer_freq 2"),
        ({"kv_lora_rank": 0}, "latent width is 0"),
        ({"kv_lora_rank": None}, "kv_lora_rank is missing"),
        ({"n_group": 3}, "16 experts cannot be shared out over 3 groups"),
        ({"num_experts_per_tok": 12}, "12 experts of 2 groups"),
        ({"scoring_func": "tanh"}, "scoring is 'tanh'"),
        ({"qk_rope_head_dim": 15}, "rotary width 15"),
        ({"q_lora_rank": None, "attention_bias": True}, "attention_bias without q_lora_rank"),
        ({"quantization_config": {"quant_method": "gptq"}}, "method 'gptq'"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": 128}}, "weight_block_size 128"),
        ({"grouped_positions": {"window": 0, "factor": 4}}, "grouped window is 0"),
        ({"routing": {"threshold": 2.0}}, "threshold is 2.0"),
        ({"rope_parameters": YARN | {"mscale_all_dim": 1e200}}, "latent gain is inf"),
        ({"rope_parameters": YARN | {"factor": 0}}, "factor is 0"),
        ({"rope_parameters": YARN | {"rope_theta": 1}}, "rotary scaling from 64 positions"),
    ],
)
def test_configurations_that_cannot_be(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    write(tmp_path, *CASES["v3"])
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(model.ModelError, match=words):
        model.load(tmp_path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.pop(f"{EXPERT}_scale_inv"), r"in FP8 without .*_scale_inv"),
        (
            lambda t: t.update({f"{EXPERT}_scale_inv": torch.ones(2, 1)}),
            r"_scale_inv is F32 \[2, 1\]; expected F32 \[1, 1\]",
        ),
        (lambda t: t[f"{EXPERT}_scale_inv"].fill_(float("nan")), rf"{EXPERT} holds NaN"),
    ],
)
def test_bad_fp8_is_refused_by_name(tmp_path: Path, edit: Callable[[dict[str, Tensor]], Any], words: str) -> None:
    write(tmp_path, *CASES["v3"])
    to_fp8(tmp_path)
    change(tmp_path, edit)
    with pytest.raises(model.ModelError, match=words):
        model.load(tmp_path, dtype="float32")


def test_this_projects_own_settings_beside_a_familys(tmp_path: Path) -> None:
    theirs = write(tmp_path, *CASES["v3"])
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "grouped_positions": {"window": 131, "factor": 8},
        "routing": {"threshold": 0.9, "fallback": "dense"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = model.load(tmp_path, dtype="float32").config
    assert read.attention == "mla-grouped" and read.experts is not None
    assert (read.experts.threshold, read.experts.fallback) == (0.9, "dense")
    config["routing"]["threshold"] = 0
    (tmp_path / "config.json").write_text(json.dumps(config))
    with torch.no_grad():
        assert relative_rms(model.load(tmp_path, dtype="float32")(IDS), theirs(IDS).logits) <= 1e-5


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.sampled_from(["window", "factor", "tempered", "threshold", "rope_type", "type"]), st.integers()),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    write(folder, *CASES["v3-yarn"])
    return folder


@settings(max_examples=150)
@given(data=st.data())
def test_odd_configurations_load_or_are_refused(written: Path, data: st.DataObject) -> None:
    """Whatever a configuration says, there is a model that computes or one of our own errors."""
    config = json.loads((written / "config.json").read_text())
    inside = config["rope_parameters"]
    for place in (config, inside):
        known = [*place, "grouped_positions", "routing", "quantization_config", "small", "attention_factor"]
        for key in data.draw(st.lists(st.sampled_from(known), max_size=2)):
            place[key] = data.draw(VALUES)
    odd = written / "odd"
    odd.mkdir(exist_ok=True)
    (odd / "config.json").write_text(json.dumps(config))
    if not (odd / "model.safetensors").exists():
        (odd / "model.safetensors").symlink_to(written / "model.safetensors")
    with contextlib.suppress(model.ModelError):
        model.load(odd, dtype="float32")(IDS[:, :5])

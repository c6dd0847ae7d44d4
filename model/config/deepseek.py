"""DeepSeek-V2's and V3's part of `config.json`: the latent and the experts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from model.config.model import Rope
from model.config.parts import Experts, Latent
from model.config.reader import Reader
from model.config.scaling import yarn_gain
from model.errors import UnsupportedModel, printable


class Routing(NamedTuple):
    """What a value of `topk_method` means."""

    grouped: bool
    group_score: str
    balanced: bool


# By `topk_method`; V3 has one method, which its configurations call noaux_tc or do not name.
ROUTINGS = {
    "deepseek_v2": {"greedy": Routing(False, "best", False), "group_limited_greedy": Routing(True, "best", False)},
    "deepseek_v3": {"noaux_tc": Routing(True, "best-two", True)},
}


def parts(read: Reader, family: str, rope: Rope) -> dict[str, Any]:
    """The fields of a ModelConfig that these families read otherwise than others."""
    heads = read.integer("num_attention_heads")
    plain, rotary = read.integer("qk_nope_head_dim"), read.integer("qk_rope_head_dim")
    queries = read.integer("q_lora_rank", 0)
    bias = read.get("attention_bias", bool, False)
    if bias and not queries:
        raise UnsupportedModel("attention_bias without q_lora_rank is not supported")
    experts = _experts(read, family)
    if experts and read.get("mlp_bias", bool, False):
        raise UnsupportedModel("mlp_bias with experts is not supported")
    rope = replace(rope, interleaved=read.get("rope_interleave", bool, True))
    return {
        "rope": rope,
        "groups": heads,
        "head_width": plain + rotary,
        "attention": "mla",
        "latent": Latent(
            width=read.integer("kv_lora_rank"),
            plain_width=plain,
            value_width=read.integer("v_head_dim"),
            query_width=queries,
            gain=_score_gain(read),
        ),
        "experts": experts,
    }


def _score_gain(read: Reader) -> float:
    """YaRN's second factor, on the scores; the first is on cosines and sines (`Rope.gain`)."""
    scaling = read.rope()
    every = scaling.number("mscale_all_dim", 0.0)
    if not every or scaling.get("rope_type", str, scaling.get("type", str, "default")) != "yarn":
        return 1.0
    gain = yarn_gain(scaling.positive("factor"), every)
    return gain * gain


def _experts(read: Reader, family: str) -> Experts | None:
    layers, first = read.integer("num_hidden_layers"), read.integer("first_k_dense_replace", 0)
    if read.integer("n_routed_experts", 0) == 0 or first >= layers:
        return None
    known = ROUTINGS[family]
    method = read.get("topk_method", str, next(iter(known)))
    if method not in known:
        raise UnsupportedModel(
            f"topk_method '{printable(method)}' is not supported for {family} (known: {', '.join(known)})"
        )
    if (frequency := read.integer("moe_layer_freq", 1)) != 1:
        raise UnsupportedModel(f"moe_layer_freq {frequency} is not supported (known: 1)")
    routing = known[method]
    normalised = read.get("norm_topk_prob", bool, family == "deepseek_v3")
    if normalised and family == "deepseek_v2":
        # The two programs that read it disagree on whether gates are scaled then, and no published model says it.
        raise UnsupportedModel("norm_topk_prob is not supported for deepseek_v2")
    return Experts(
        count=read.integer("n_routed_experts"),
        chosen=read.integer("num_experts_per_tok"),
        width=read.integer("moe_intermediate_size"),
        groups=read.integer("n_group", 1) if routing.grouped else 1,
        chosen_groups=read.integer("topk_group", 1) if routing.grouped else 1,
        shared=read.integer("n_shared_experts", 0),
        first=first,
        scoring=read.get("scoring_func", str, {"deepseek_v2": "softmax", "deepseek_v3": "sigmoid"}[family]),
        group_score=routing.group_score,
        normalised=normalised,
        scale=read.positive("routed_scaling_factor", 1.0),
        balanced=routing.balanced,
    )

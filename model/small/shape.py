"""What a small model is made of, as data, and as the `config.json` of the checkpoint that it becomes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from model.errors import ModelUsageError


@dataclass(frozen=True)
class Shape:
    """Widths in features, lengths in tokens. The head is the embedding."""

    attention: str = "mla"  # or "gqa"
    feed_forward: str = "moe"  # or "dense"
    vocabulary: int = 32_768  # V
    width: int = 512  # K, the residual stream
    layers: int = 8
    heads: int = 10  # H
    nope: int = 32  # features of a query that know no position
    rope: int = 32  # features of a query that are turned
    value: int = 64  # features of a head's answer
    latent: int = 128  # C, what MLA keeps of keys and values
    groups: int = 2  # G, key/value heads of GQA
    experts: int = 16  # E
    expert_groups: int = 4
    chosen_groups: int = 2
    chosen: int = 4  # experts of a token
    expert_width: int = 96
    shared: int = 1  # experts that every token has
    dense_width: int = 1536  # of a dense feed-forward
    scoring: str = "softmax"  # or "sigmoid", DeepSeek-V3's
    normalised: bool = False
    """Do the weights of the chosen experts sum to 1? Where they do not, the router learns to be as sure as it is worth,
    and the mass of the chosen experts says whether they are enough (`model.feed_forward.routing`)."""
    scaling: float = 4.0  # of the routed experts' sum
    depth: int = 2  # multi-token modules
    chain_normed: bool = True  # a module reads the state before it behind that one's norm
    theta: float = 10_000.0
    context: int = 4096  # trained
    window: int = 2048  # positions that are told apart exactly; beyond, so many share one that `reach` is in sight
    reach: int = 32_768
    norm_eps: float = 1e-6
    gap_order: str = "prefix-first"
    """What is read first of the texts around a gap; or "suffix-first", where the text left of it leads into it."""

    def __post_init__(self) -> None:
        if self.attention not in ("mla", "gqa") or self.feed_forward not in ("moe", "dense"):
            raise ModelUsageError(f"no small model has {self.attention} attention and {self.feed_forward} feed-forward")
        if self.experts % self.expert_groups or self.experts // self.expert_groups < 2:
            raise ModelUsageError(f"{self.experts} experts do not make {self.expert_groups} groups")
        if self.chosen > self.chosen_groups * self.experts // self.expert_groups:
            raise ModelUsageError(f"{self.chosen} experts of a token do not fit {self.chosen_groups} groups")

    @property
    def key(self) -> int:
        """Features of a query or key."""
        return self.nope + self.rope

    def config_json(self) -> dict[str, Any]:
        """As the family's own checkpoints say it."""
        common: dict[str, Any] = {
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_nextn_predict_layers": self.depth,
            "num_attention_heads": self.heads,
            "max_position_embeddings": self.reach,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.theta,
            "tie_word_embeddings": True,
            "hidden_act": "silu",
            "eos_token_id": self.vocabulary - 7,
            "torch_dtype": "bfloat16",
            "gap_order": self.gap_order,
            "small": asdict(self),
        }
        if self.reach > self.context:
            factor = -(-(self.reach - self.window) // (self.context - self.window))
            common["grouped_positions"] = {"window": self.window, "factor": factor}
        if self.attention == "gqa":
            return common | {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "num_key_value_heads": self.groups,
                "head_dim": self.key,
                "intermediate_size": self.dense_width,
            }
        return common | {
            "architectures": ["DeepseekV3ForCausalLM"],
            "model_type": "deepseek_v3",
            "num_key_value_heads": self.heads,
            "intermediate_size": self.dense_width,
            "first_k_dense_replace": 0 if self.feed_forward == "moe" else self.layers + self.depth,
            "q_lora_rank": None,
            "kv_lora_rank": self.latent,
            "qk_nope_head_dim": self.nope,
            "qk_rope_head_dim": self.rope,
            "v_head_dim": self.value,
            "n_routed_experts": self.experts,
            "n_group": self.expert_groups,
            "topk_group": self.chosen_groups,
            "num_experts_per_tok": self.chosen,
            "n_shared_experts": self.shared,
            "moe_intermediate_size": self.expert_width,
            "moe_layer_freq": 1,
            "norm_topk_prob": self.normalised,
            "scoring_func": self.scoring,
            "topk_method": "noaux_tc",
            "routed_scaling_factor": self.scaling,
            "rope_interleave": True,
        }


FULL = Shape()
"""`viable-small`."""
BASELINE = Shape(attention="gqa", feed_forward="dense", heads=8, layers=10, dense_width=1408, reach=4096)
"""About as many parameters, all of them used for every token: what `viable-small` is compared with."""
TINY = Shape(
    width=64, layers=2, heads=2, nope=16, rope=16, value=32, latent=32, experts=8, chosen=2, expert_width=32,
    dense_width=96, context=256, window=128, reach=2048,
)  # fmt: skip
"""For tests."""

SHAPES = {"full": FULL, "baseline": BASELINE, "tiny": TINY}

"""What a decoder is made of, as data: read from `config.json` or GGUF metadata, never changed afterwards."""

from __future__ import annotations

from model.config.families import FAMILIES, Family, family
from model.config.gguf import Biases, from_gguf
from model.config.hub import from_config_json
from model.config.model import LARGEST, ModelConfig, Rope
from model.config.parts import Experts, Grouped, Latent
from model.config.scaling import linear_factors, llama3_factors

__all__ = [
    "FAMILIES",
    "LARGEST",
    "Biases",
    "Experts",
    "Family",
    "Grouped",
    "Latent",
    "ModelConfig",
    "Rope",
    "family",
    "from_config_json",
    "from_gguf",
    "linear_factors",
    "llama3_factors",
]

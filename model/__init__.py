"""Ids in, ids out: decoders, their tokenizers, and the loop that decodes with them."""

from __future__ import annotations

from model.config import ModelConfig
from model.decoder import Decoder
from model.errors import (
    BadModelFile,
    BadWeights,
    ModelError,
    ModelNotFound,
    ModelUsageError,
    UnsupportedModel,
)
from model.loaders import load
from model.loaders.gguf import held
from model.loaders.vocabulary import load_tokenizer
from model.tokenizer import ByteTokenizer, FimTokens, Tokenizer

__all__ = [
    "BadModelFile",
    "BadWeights",
    "ByteTokenizer",
    "Decoder",
    "FimTokens",
    "ModelConfig",
    "ModelError",
    "ModelNotFound",
    "ModelUsageError",
    "Tokenizer",
    "UnsupportedModel",
    "held",
    "load",
    "load_tokenizer",
]

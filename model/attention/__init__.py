"""Attention by name, and what each kind promises.

An attention is a module built from the config. It declares the rows that one position leaves in the cache (`rows`), so
that the cache allocates and truncates without knowing kinds. To swap one in, give `ModelConfig.attention` its name.
"""

from __future__ import annotations

from model.attention.gqa import GroupedQueryAttention
from model.errors import UnsupportedModel

ATTENTIONS: dict[str, type[GroupedQueryAttention]] = {"gqa": GroupedQueryAttention}


def attention(name: str) -> type[GroupedQueryAttention]:
    """The class called `name`; UnsupportedModel names it and those that are known."""
    if name not in ATTENTIONS:
        raise UnsupportedModel(f"no attention is called '{name}' (known: {', '.join(sorted(ATTENTIONS))})")
    return ATTENTIONS[name]

"""f-strings before Python 3.12: strings whose fields are parsed one by one (CPython 3.11, Parser/string_parser.c)."""

from __future__ import annotations


def refusal(text: str, prefix: str, quote: str) -> str | None:
    return None

"""Text made safe to show: what would steer a terminal or reorder a line is spelled out instead."""

from __future__ import annotations

import unicodedata

_KEPT = frozenset("\n\t")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that act or hide instead of showing: controls, format characters (among them those that reverse
the direction of writing), surrogates, separators of lines and paragraphs."""


def spelled(character: str) -> str:
    """What to show for one character: itself, `^X` for a control, `<hex>` for what else has no shape of its own."""
    if character in _KEPT or unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return f"^{chr(code ^ 0x40)}"
    return f"<{code:02x}>"


def visible(text: str) -> str:
    """`text` with every character spelled; tabs and line ends stay."""
    return text if text.isascii() and text.isprintable() else "".join(map(spelled, text))

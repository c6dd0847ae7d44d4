"""How many tokens are drafted at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from model.engine.contracts import Step


@dataclass(frozen=True)
class Fixed:
    """Always `width`."""

    width: int

    def after(self, step: Step[Any]) -> Fixed:
        return self


@dataclass(frozen=True)
class Moving:
    """Doubles while whole drafts are kept, up to `widest`; falls back to what was kept, but not below `narrowest`.

    Code repeats itself in runs: where a draft was kept whole a longer one may be; where it was not, the rows behind the
    refused one were paid for in vain.
    """

    narrowest: int
    widest: int
    width: int

    def after(self, step: Step[Any]) -> Moving:
        if step.agreed < step.drafted:
            width = step.agreed
        elif step.drafted < self.width:
            width = self.width  # all that the drafter had was right, which says nothing about a longer draft
        else:
            width = 2 * self.width
        return replace(self, width=min(max(width, self.narrowest), self.widest))


def moving(narrowest: int, widest: int) -> Moving:
    """A window that begins narrow."""
    if not 0 <= narrowest <= widest:
        raise ValueError(f"need 0 <= narrowest <= widest, not {narrowest} and {widest}")
    return Moving(narrowest, widest, narrowest)

"""The validator that refuses nothing: decoding under it is plain decoding."""

from __future__ import annotations

from collections.abc import Sequence

from validators.contracts import Problem, Unit, Verdict


class AcceptAll:
    """Accepts every text and every token, half characters included. Its only state is None."""

    def start(self, prefix: str, suffix: str = "") -> None:
        return None

    def problems(self, state: None) -> tuple[Problem, ...]:
        return ()

    def check(self, state: None, text: str) -> Verdict[None]:
        return Verdict(len(text), None, None)

    def accept_block(self, state: None, ids: Sequence[int]) -> tuple[int, None]:
        return len(ids), None

    def complete(self, state: None) -> bool:
        return True

    def closing(self, state: None) -> str | None:
        return ""

    def unit_end(self, state: None, unit: Unit) -> bool:
        return False

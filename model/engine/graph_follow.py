"""Multi-token modules follow a prompt in recorded passes, as the decoder reads it; the device keeps its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from model.gpu.follow import BEFORE, Follow, place
from model.gpu.prefill import seen_from
from model.gpu.record import Pool, Recorded


class Following:
    """The modules' rows of known texts. widths: positions of a recorded pass, increasing.

    history: int32 [S + 1], tokens by position, on the device; the first is never noted.
    """

    def __init__(
        self,
        follow: Follow,
        history: Tensor,
        widths: Sequence[int],
        capacity: int,
        recordable: bool,
        device: torch.device,
        pool: Pool | None,
    ) -> None:
        self._follow = follow
        self._history = history
        self._widths = widths
        self._capacity = capacity
        self._recordable = recordable
        self._device = device
        self._pool = pool
        self._place = torch.zeros(BEFORE + widths[-1] + 1, dtype=torch.int32, device=device)
        self._passes: dict[tuple[int, int | None], Callable[[], None]] = {}

    @torch.inference_mode()
    def follow(self, known: Sequence[int], same: int) -> None:
        """Rows of all positions of `known` but those that read what comes behind it; the first `same` tokens are what
        was followed before."""
        for begin in range(max(same - 1, 0), len(known) - 1, self._widths[-1]):
            self._pass(begin, known[begin + 1 : begin + self._widths[-1] + 1])

    def _pass(self, begin: int, tokens: Sequence[int]) -> None:
        on_gpu = self._device.type == "cuda"
        width = next(width for width in self._widths if width >= len(tokens)) if on_gpu else len(tokens)
        key = (width, seen_from(begin, len(tokens), self._capacity))
        given = torch.tensor(place(begin, tokens, width), dtype=torch.int32, pin_memory=on_gpu)
        self._place[: len(given)].copy_(given, non_blocking=True)
        self._history[begin + 1 : begin + 1 + len(tokens)].copy_(self._place[BEFORE : BEFORE + len(tokens)])
        if key not in self._passes:
            compute = partial(self._follow, self._place[: len(given)], key[1])
            self._passes[key] = Recorded(compute, self._pool) if self._recordable else compute
        self._passes[key]()

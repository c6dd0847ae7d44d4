"""What is said where kernels cannot run: one line that names what is missing, and what would do."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from kernels import launching

pytest.importorskip("triton")


@pytest.mark.parametrize(
    ("cuda", "version", "card", "words"),
    [
        (False, "9.9.0", (9, 0), "no CUDA device is usable here"),
        (True, "2.0.1", (9, 0), "Triton 2.0.1 is too old; {oldest} or newer is needed"),
        (True, "9.9.0", (7, 5), "Old card is too old for these kernels; they need compute capability 8.0"),
        (True, "9.9.0", (8, 0), None),
    ],
)
def test_says_what_is_missing(
    cuda: bool, version: str, card: tuple[int, int], words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: card)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old card")
    monkeypatch.setattr("triton.__version__", version)
    oldest = ".".join(map(str, launching.OLDEST_TRITON))
    assert launching.problem("cuda") == (words and words.format(oldest=oldest))


def test_says_that_triton_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = launching.problem("cuda")
    assert found is not None and found.startswith("Triton is not installed; `pip install")

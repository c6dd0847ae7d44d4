"""What lies between the head and the next block compiles for compute capability 9.0, and keeps to its registers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kernels import launching
from kernels.drafting import Joining, Repetition
from kernels.ranking import Scores

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.skipif(launching.INTERPRETED, reason="kernels are decorated for Triton's interpreter"),
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
]
VOCABULARY, WIDTH, SEGMENT, ROWS = 151_936, 896, 32, 3


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Takes a module and the names of kernels of it, which are then compiled instead of launched."""
    from tests.kernels.compiled import Compiling

    def replace(module: Any, *names: str) -> list[Any]:
        kernels = [Compiling(getattr(module, name), tmp_path) for name in names]
        for name, kernel in zip(names, kernels, strict=True):
            monkeypatch.setattr(module, name, kernel)
        return kernels

    monkeypatch.setattr(launching, "overlaps", lambda: True)
    return replace


def checked(kernel: Any) -> None:
    (found,) = kernel.found
    assert found.spilled == 0 and found.shared <= 65_536, found[:3]
    assert "griddepcontrol.wait" in found.ptx and "griddepcontrol.launch_dependents" in found.ptx


@pytest.mark.parametrize("rows", [1, 3])
def test_ranking(rows: int, replaced: Any) -> None:
    from kernels import rank_triton

    (kernel,) = replaced(rank_triton, "_kernel")
    numbers = torch.zeros(3 if rows == 1 else 1, dtype=torch.int32)
    found = Scores(torch.zeros(rows, VOCABULARY), torch.zeros(rows, VOCABULARY // SEGMENT), SEGMENT)
    block = numbers if rows == 1 else None
    rank_triton.rank(found, 8, torch.zeros(rows, WIDTH), numbers[:1], torch.zeros(9, WIDTH), None, block)
    checked(kernel)


def test_what_modules_read_and_leave(replaced: Any) -> None:
    from kernels import drafting_triton

    compiled = replaced(drafting_triton, "_first", "_second", "_on", "_settle")
    gain, table = torch.zeros(WIDTH).bfloat16(), torch.zeros(50, WIDTH).bfloat16()
    of, states = Joining(None, (gain, gain), 1e-6, table), torch.zeros(9, WIDTH)
    best, block = torch.zeros(ROWS, 8, dtype=torch.int32), torch.zeros(4 + ROWS, dtype=torch.int32)
    scores, ids = Scores(torch.zeros(1, 32_768), torch.zeros(1, 1024), SEGMENT), torch.zeros(32_768, dtype=torch.int32)
    drafts = torch.zeros(4, dtype=torch.int32)
    _, plan = drafting_triton.join_first(best, block, states, of, 2)
    drafting_triton.join_second(best, block, plan, scores, ids, states[:4], states, drafts, of)
    drafting_triton.join_on(states, plan[1:2], scores, ids, drafts, 1, of)
    drafting_triton.settle(best, block, plan, scores, ids, drafts, Repetition(ids, 3, 1), best, block)
    for kernel in compiled:
        checked(kernel)


def test_looking_up_what_was_written_before(replaced: Any) -> None:
    from kernels import drafting_triton

    (compiled,) = replaced(drafting_triton, "_settle")
    best, block = torch.zeros(14, 8, dtype=torch.int32), torch.zeros(18, dtype=torch.int32)
    scores, ids = Scores(torch.zeros(1, 32_768), torch.zeros(1, 1024), SEGMENT), torch.zeros(32_768, dtype=torch.int32)
    drafts, history = torch.zeros(2, dtype=torch.int32), Repetition(torch.zeros(4097, dtype=torch.int32), 3, 1)
    drafting_triton.settle(best, block, block[:3], scores, ids, drafts, history, best, block)
    checked(compiled)

"""Fewer threads where others keep the cores busy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import model
from kernels import native
from model.companions import FOLDER
from model.engine.choose import pace_of
from model.engine.pace import IN_A_ROW, LONGEST, PATIENCE, STEADY, Pace
from model.feed_forward.moe import set_routing_strategy
from tests.tiny import Shape, write_tiny_safetensors


class Machine:
    """Clocks of a pass that takes a second: with all threads it gets `share` of their time, alone all of it."""

    def __init__(self, share: float = 1.0, most: int = 4) -> None:
        self.share = share
        self.now = self.worked = 0.0
        self.used: list[int] = []
        self.pace = Pace(most, self.used.append, lambda: self.now, lambda: self.worked)

    def run(self, passes: int) -> list[int]:
        """Threads of each pass."""
        found = []
        for _ in range(passes):
            with self.pace.measured():
                threads = self.pace.threads
                self.now += 1
                self.worked += threads * self.share if threads > 1 else 1
            found.append(threads)
        return found


def test_all_threads_go_on_while_the_cores_are_free() -> None:
    machine = Machine(0.97)
    assert machine.run(500) == [4] * 500 and machine.used == []


def test_one_slow_pass_is_no_reason() -> None:
    machine = Machine()
    for share in (0.3, 1.0, 0.5, 0.9) * 20:
        machine.share = share
        assert machine.run(1) == [4]


def test_on_a_busy_machine_one_thread_goes_on_and_all_are_tried_ever_more_rarely() -> None:
    machine = Machine(0.5)
    threads = machine.run(IN_A_ROW + 5_000)
    assert threads[:IN_A_ROW] == [4] * IN_A_ROW
    alone = [len(each) for each in "".join("1" if n == 1 else " " for n in threads[IN_A_ROW:]).split()]
    assert alone[:5] == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE, LONGEST, LONGEST]
    assert max(alone) == LONGEST
    assert set("".join("4" if n == 4 else " " for n in threads).split()) == {"4" * IN_A_ROW}


def test_they_come_back_when_the_others_have_gone() -> None:
    machine = Machine(0.5)
    machine.run(IN_A_ROW)
    machine.share = 1.0
    assert machine.run(PATIENCE + 100) == [1] * PATIENCE + [4] * 100
    assert machine.used == [1, 4]
    machine.share = 0.4  # and what was learnt of the past is forgotten
    assert machine.run(IN_A_ROW + PATIENCE + 1)[-2:] == [1, 4]


def test_a_pass_that_is_broken_off_tells_nothing() -> None:
    machine = Machine(0.1)
    for _ in range(10):
        with pytest.raises(KeyboardInterrupt), machine.pace.measured():
            machine.now += 1
            raise KeyboardInterrupt
    assert machine.used == []


def test_one_core_has_nothing_to_try() -> None:
    machine = Machine(0.2, most=1)
    assert machine.run(200) == [1] * 200 and machine.used == []


def test_where_bits_depend_on_it_nothing_changes() -> None:
    before = torch.get_num_threads()
    for _ in range(10):
        with STEADY.measured():
            assert torch.get_num_threads() == before


def test_only_where_sums_are_exact(tmp_path: Path) -> None:
    path = write_tiny_safetensors(tmp_path, Shape(width=64, heads=4, groups=2, feed_forward=96))
    chosen = {dtype: pace_of(model.load(path, dtype=dtype)) for dtype in ("int8", "int4", "bfloat16", "float32")}
    assert [dtype for dtype, pace in chosen.items() if isinstance(pace, Pace)] == ["int8", "int4"]
    assert pace_of(model.load(FOLDER / "viable-small", dtype="int4")) is STEADY  # its router is not
    small = model.load(FOLDER / "viable-small")
    assert isinstance(pace_of(small), Pace) == (native.lanes() > 0)  # but in one call it is
    set_routing_strategy(small, 0.5, "topk")
    assert pace_of(small) is STEADY

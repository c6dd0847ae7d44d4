"""All layers in one launch against their twin: phase by phase on a CPU, in one launch on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import launching
from kernels.layers_reference import layers as twin
from kernels.stack import PHASES, LayerWeights, Stack, plan, stack, unstackable
from kernels.weights import Weight, four

pytest.importorskip("triton")
BOUND = 1e-2  # activations are rounded to bfloat16 between products; see tests/kernels/test_pairs_block.py
LAYERS, CAPACITY = 2, 400


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def weight(rows: int, columns: int, bits: int, seed: int) -> Weight:
    plain = random(rows, columns, seed=seed) * columns**-0.5
    if bits == 16:
        return plain.bfloat16()
    steps = (plain.view(rows, -1, 32).abs().amax(2) / 7).bfloat16()
    codes = (plain.view(rows, -1, 32) / steps.float().unsqueeze(2)).round().clamp(-7, 7) + 8
    return four(codes.to(torch.uint8).view(rows, columns), steps, steps * 0.25)


def some(shape: tuple[int, int, int, int, int], bits: int, bias: bool, device: str = "cpu") -> Stack:
    """Layers of (K, F, H, G, D)."""
    k, f, heads, groups, width = shape
    qkv = (heads + 2 * groups) * width
    found = []
    for i in range(LAYERS):
        small = torch.bfloat16 if bits == 16 else torch.float32
        gains = (1 + 0.1 * random(2, k, seed=i)).to(small)
        kept = random(2, groups, CAPACITY, width, seed=i).bfloat16()
        given: list[Any] = [gains[0].clone(), gains[1].clone(), 1e-6, weight(qkv, k, bits, i)]
        given += [random(qkv, seed=i).to(small) if bias else None]
        given += [weight(k, heads * width, bits, i), weight(2 * f, k, bits, i), weight(k, f, bits, i)]
        given += [kept[0].clone(), kept[1].clone()]
        found.append(LayerWeights(*(_to(part, device) for part in given)))
    assert unstackable(found) is None
    return stack(found)


def _to(part: Any, device: str) -> Any:
    if isinstance(part, Tensor):
        return part.to(device)
    return type(part)(*(each.to(device) for each in part)) if isinstance(part, tuple) else part


def rotation(width: int) -> Tensor:
    angles = random(CAPACITY, width // 2)
    return torch.cat([angles.cos(), angles.sin()], -1)


def error(ours: Tensor, twins: Tensor) -> float:
    return float((ours.double() - twins.double()).pow(2).mean().sqrt() / twins.double().pow(2).mean().sqrt())


def expect_same(found: Stack, ours: Tensor, caches: list[Tensor], x: Tensor, turn: Tensor, start: Tensor) -> None:
    """caches: keys and values of all layers as they were before."""
    after = [part.clone() for layer in found.layers for part in (layer.keys, layer.values)]
    for layer, (keys, values) in zip(found.layers, zip(caches[::2], caches[1::2], strict=True), strict=True):
        layer.keys.copy_(keys)
        layer.values.copy_(values)
    assert error(ours, twin(x, found, turn, start)) <= BOUND
    written = slice(int(start), int(start) + len(x))
    for ours_kept, twins in zip(after, (p for layer in found.layers for p in (layer.keys, layer.values)), strict=True):
        assert error(ours_kept[:, written], twins[:, written]) <= BOUND
        assert ours_kept[:, written.stop :].isnan().all()
        assert torch.equal(ours_kept[:, : written.start], twins[:, : written.start])


def unwritten(found: Stack, start: int) -> list[Tensor]:
    """Nothing may be seen that no pass has written. Returns copies of the caches."""
    for layer in found.layers:
        layer.keys[:, start:] = torch.nan
        layer.values[:, start:] = torch.nan
    return [part.clone() for layer in found.layers for part in (layer.keys, layer.values)]


def memory_of(found: Stack, *others: Tensor) -> list[Tensor]:
    """All that a launch may touch."""
    memory = [*others, found.table, *found.room]
    for layer in found.layers:
        memory += [layer.attention_gain, layer.feed_forward_gain, layer.keys, layer.values]
        memory += [part for of in layer.streams for part in (of.numbers, of.factors)]
        memory += [] if layer.bias is None else [layer.bias]
    return memory


Shape = tuple[int, int, int, int, int]


@pytest.mark.skipif(launching.INTERPRETED, reason="kernels are decorated for Triton's interpreter")
@pytest.mark.parametrize("whole", [False, True], ids=["phase by phase", "at once"])
@pytest.mark.parametrize(
    ("shape", "bits", "bias", "start", "rows", "programs", "rooms"),
    [
        ((96, 160, 3, 1, 32), 16, True, 0, 2, 3, 400),
        ((96, 160, 3, 1, 32), 16, True, 1, 1, 3, 400),
        ((96, 160, 3, 1, 32), 16, True, 395, 5, 3, 400),
        ((96, 160, 3, 1, 32), 16, False, 299, 3, 2, 400),
        ((320, 1312, 4, 2, 64), 16, True, 254, 5, 7, 125),  # down takes rooms of gate and up
        ((96, 352, 3, 1, 32), 4, True, 260, 3, 2, 400),
        ((320, 1120, 4, 2, 64), 4, False, 5, 8, 5, 400),
    ],
)
def test_phases_are_their_twin(
    shape: Shape, bits: int, bias: bool, start: int, rows: int, programs: int, rooms: int, whole: bool
) -> None:
    from kernels import layers_gluon
    from tests.kernels import gluon_in_torch

    found, place = some(shape, bits, bias), torch.tensor([start], dtype=torch.int32)
    turn, x = rotation(shape[4]), random(rows, shape[0])
    caches = unwritten(found, start)
    ours = x.clone()
    by_phase = [(layer, layer + 1, phase) for layer in range(LAYERS) for phase in range(PHASES)]
    for span in [(0, LAYERS, layers_gluon.WHOLE)] if whole else by_phase:
        given = layers_gluon.arguments(ours, found, turn, place, span, (programs, rooms))
        launches = gluon_in_torch.run(
            layers_gluon.kernel, given, programs, memory_of(found, ours, turn, place), found.room.counter
        )
        assert gluon_in_torch.races(launches) == 0
        assert found.room.counter.tolist() == [0, 0]
    expect_same(found, ours, caches, x, turn, place)


@pytest.mark.gpu
@pytest.mark.parametrize("bits", [16, 4])
@pytest.mark.parametrize(("start", "rows"), [(0, 1), (130, 3), (390, 8)])
def test_one_launch_is_its_phases_and_its_twin(bits: int, start: int, rows: int, device: str) -> None:
    """The default model's layers. The same bits every time: a race would show."""
    from kernels.layers_gluon import by_phases, layers

    found = some((896, 4864, 14, 2, 64), bits, True, device)
    place = torch.tensor([start], dtype=torch.int32, device=device)
    turn, x = rotation(64).to(device), random(rows, 896).to(device)
    caches = unwritten(found, start)
    apart = by_phases(x, found, turn, place)
    for _ in range(200):
        assert torch.equal(layers(x, found, turn, place), apart)
    assert found.room.counter.tolist() == [0, 0]
    expect_same(found, apart, caches, x, turn, place)


@pytest.mark.gpu
def test_a_row_of_one_launch_does_not_depend_on_the_rows_beside_it(device: str) -> None:
    from kernels.layers_gluon import layers

    found = some((896, 4864, 14, 2, 64), 16, True, device)
    turn, x = rotation(64).to(device), random(3, 896).to(device)
    places = [torch.tensor([start], dtype=torch.int32, device=device) for start in (200, 201, 202)]
    unwritten(found, 200)
    together = layers(x, found, turn, places[0])
    unwritten(found, 200)
    apart = [layers(x[i : i + 1], found, turn, place) for i, place in enumerate(places)]
    assert torch.equal(together, torch.cat(apart))


@pytest.mark.gpu
def test_one_launch_can_be_recorded(device: str) -> None:
    from kernels.layers_gluon import layers

    found = some((896, 4864, 14, 2, 64), 16, True, device)
    place = torch.tensor([100], dtype=torch.int32, device=device)
    turn, x = rotation(64).to(device), random(3, 896).to(device)
    expected = layers(x, found, turn, place)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ours = layers(x, found, turn, place)
    for _ in range(20):
        ours.fill_(torch.nan)
        graph.replay()
        assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"eps": 1e-5}, "differ in shape"),
        ({"qkv": torch.zeros(160, 96)}, "different formats"),
        ({"keys": torch.zeros(1, CAPACITY, 32), "values": torch.zeros(1, CAPACITY, 32)}, "not computed in bfloat16"),
        ({"down": weight(97, 160, 16, 0)[1:]}, None),
        ({"down": torch.zeros(96 * 160 + 1).bfloat16()[1:].view(96, 160)}, "multiples of 16 bytes"),
    ],
)
def test_what_cannot_be_one_launch_is_said(change: dict[str, Any], words: str | None) -> None:
    layers = some((96, 160, 3, 1, 32), 16, True).layers
    changed = layers[0]._replace(**change)
    found = unstackable([changed, layers[1]] if "keys" not in change else [changed])
    assert found is None if words is None else found is not None and words in found


def test_a_plan_is_only_made_where_there_is_room() -> None:
    """The default model's layers on the 132 multiprocessors of an H100 or H200."""
    layer = some((896, 4864, 14, 2, 64), 16, True).layers[0]
    assert plan(layer, 132, 54, 8) == (5, 14)
    assert plan(layer, 132, 51, 8) is None
    assert plan(layer, 60, 54, 8) is None

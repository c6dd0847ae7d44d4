"""A layer in one call against the same op by op: odd sizes, several texts, an adapter, any number of threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import kernels
from kernels import backend, native
from kernels.experts import Routing
from kernels.layer import Dense, Experts, GroupedQuery, Latent, Layer, Product, Text
from tests.kernels.test_pairs import error

BOUND = 2e-4
"""Of a row's maximum, twice eight bits are steps of 3e-5; four products one behind the other round to them, and a last
bit that differs in front of one can be a step behind it. A new key is rounded to bfloat16 besides."""

pytestmark = pytest.mark.skipif(not native.lanes(), reason="no such instructions here")


class Weights:
    """Random ones; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)

    def numbers(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random)

    def packed(self, rows: int, columns: int) -> kernels.Packed:
        codes = torch.randint(-127, 128, (rows, columns), generator=self.random, dtype=torch.int8)
        return kernels.pack_int8(codes, torch.rand(rows, generator=self.random) / (60 * columns**0.5))

    def product(self, rows: int, columns: int, rank: int = 0, bias: bool = False) -> Product:
        pair = (self.packed(rank, columns), self.packed(rows, rank)) if rank else None
        return Product(self.packed(rows, columns), self.numbers(rows) if bias else None, pair)


@dataclass(frozen=True)
class GroupedShape:
    """Grouped-query attention."""

    heads: int
    groups: int
    width: int
    bias: bool = True
    turns = 2

    @property
    def turned(self) -> int:
        return self.width

    def made(self, weights: Weights, width: int, rank: int) -> GroupedQuery:
        into = weights.product((self.heads + 2 * self.groups) * self.width, width, rank, self.bias)
        return GroupedQuery(into, weights.product(width, self.heads * self.width, rank), self.groups, self.width)

    def rows(self) -> list[tuple[int, int]]:
        return [(self.groups, self.width)] * 2


@dataclass(frozen=True)
class LatentShape:
    """Latent attention, near and far where it has a window."""

    heads: int
    plain: int
    turned: int
    latent: int
    value: int
    window: int | None = None
    tempered: bool = False
    normed: bool = True
    bias: bool = False

    @property
    def turns(self) -> int:
        return 2 if self.window is None else 6

    def made(self, weights: Weights, width: int, rank: int) -> Latent:
        into = self.heads * (self.plain + self.turned) + self.latent + self.turned
        return Latent(
            weights.product(into, width, rank, self.bias),
            1 + weights.numbers(self.latent) / 9 if self.normed else None,
            1e-6,
            (weights.numbers(self.heads * (self.plain + self.value), self.latent) / self.latent**0.5).bfloat16(),
            weights.product(width, self.heads * self.value, rank),
            self.heads,
            self.turned,
            (self.plain + self.turned) ** -0.5,
            1 + weights.numbers(2, self.heads) / 9 if self.tempered else None,
            self.window,
        )

    def rows(self) -> list[tuple[int, int]]:
        return [(1, self.latent + self.turned * (1 if self.window is None else 2))]


@dataclass(frozen=True)
class DenseShape:
    """SwiGLU."""

    inner: int

    def made(self, weights: Weights, width: int, rank: int) -> Dense:
        return Dense(weights.product(2 * self.inner, width, rank), weights.product(width, self.inner, rank))


@dataclass(frozen=True)
class ExpertsShape:
    """A mixture, with shared experts so many times as wide."""

    routing: Routing
    inner: int
    shared: int = 1
    bias: bool = False

    def made(self, weights: Weights, width: int, rank: int) -> Experts:
        count = self.routing.experts
        wide = self.shared * self.inner
        return Experts(
            weights.numbers(count, width) / width**0.5,
            weights.numbers(count) / 9 if self.bias else None,
            self.routing,
            tuple(weights.packed(2 * self.inner, width) for _ in range(count)),
            tuple(weights.packed(width, self.inner) for _ in range(count)),
            (weights.packed(2 * wide, width), weights.packed(width, wide)) if wide else None,
        )


@dataclass(frozen=True)
class Shape:
    """A layer's."""

    width: int
    attention: GroupedShape | LatentShape
    feed_forward: DenseShape | ExpertsShape
    rank: int = 0


class Made:
    """A layer of random weights, and texts of the given (start, rows) with caches that are full up to the start."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        self.shape, self.weights = shape, Weights(seed + shape.width + shape.attention.heads + shape.rank)
        gains = [1 + self.weights.numbers(shape.width) / 9 for _ in range(2)]
        halves = (part.made(self.weights, shape.width, shape.rank) for part in (shape.attention, shape.feed_forward))
        self.layer = Layer(*gains, 1e-6, *halves)

    def texts(self, places: Sequence[tuple[int, int]]) -> list[Text]:
        found = []
        for start, rows in places:
            kept = []
            for groups, width in self.shape.attention.rows():
                part = torch.full((groups, start + rows + 3, width), torch.nan).bfloat16()
                part[:, :start] = self.weights.numbers(groups, start, width).bfloat16()
                kept.append(part)
            found.append(Text(start, rows, tuple(kept)))
        return found

    def rotation(self, rows: int) -> list[Tensor]:
        found = []
        for _ in range(self.shape.attention.turns // 2):
            angles = self.weights.numbers(rows, self.shape.attention.turned // 2)
            cos, sin = angles.cos(), angles.sin()
            found += [torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)]
        return found

    def x(self, rows: int) -> Tensor:
        return self.weights.numbers(rows, self.shape.width)


def copies(texts: Sequence[Text]) -> list[Text]:
    return [text._replace(kept=tuple(part.clone() for part in text.kept)) for text in texts]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


SMALL = Routing(16, 4, 4, 2, True, False, False, 4.0, 0.0, False)
"""What `viable-small` has."""
ODD = Routing(15, 3, 3, 2, False, True, True, 2.5, 0.0, False)
MANY = Routing(40, 6, 1, 1, False, False, False, 1.0, 0.0, False)
DENSE = {
    "default-model": Shape(896, GroupedShape(14, 2, 64), DenseShape(4864), 16),
    "one-group": Shape(64, GroupedShape(2, 1, 32, bias=False), DenseShape(96)),
    "wide-heads": Shape(128, GroupedShape(3, 3, 128), DenseShape(160), 24),
    "narrow": Shape(96, GroupedShape(8, 2, 64), DenseShape(32), 8),
}
LATENT = {
    "viable-small": Shape(512, LatentShape(10, 32, 32, 128, 64, 40), ExpertsShape(SMALL, 96)),
    "tempered": Shape(64, LatentShape(7, 16, 64, 48, 32, 7, True, False, True), ExpertsShape(ODD, 48, 2, True), 5),
    "plain": Shape(96, LatentShape(7, 0, 32, 64, 16), ExpertsShape(MANY, 32, 0)),
    "dense-feed": Shape(64, LatentShape(6, 16, 32, 32, 16, 1), DenseShape(80), 3),
    "grouped-experts": Shape(128, GroupedShape(4, 2, 32), ExpertsShape(SMALL, 16, 3, True)),
}
SHAPES = DENSE | LATENT
PLACES = [[(0, 1)], [(511, 1)], [(0, 7)], [(33, 3)], [(5, 1), (64, 2), (0, 3)], [(100, 32)]]


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_one_call_equals_op_by_op(shape: Shape, places: list[tuple[int, int]]) -> None:
    made = Made(shape)
    rows = sum(count for _, count in places)
    x, rotation, texts = made.x(rows), made.rotation(rows), made.texts(places)
    assert kernels.layer_problem(made.layer) is None
    for adapted in (True, False):
        found = []
        for name in ("vnni", backend.REFERENCE):
            own = copies(texts)
            with backend.use(name):
                packed = kernels.pack_layer(made.layer)
            before = x.clone()
            y, (ids,) = kernels.layer(x, [packed], rotation, [own], adapted)
            found.append((y, ids, own))
            assert torch.equal(x, before)
        (ours, our_ids, our_texts), (expected, ids, expected_texts) = found
        assert torch.equal(our_ids.sort().values, ids.sort().values)  # where there is a bias, best first is ambiguous
        assert error(ours - x, expected - x) <= BOUND
        for one, other in zip(our_texts, expected_texts, strict=True):
            for ours_kept, kept in zip(one.kept, other.kept, strict=True):
                end = one.start + one.rows
                assert ours_kept[:, end:].isnan().all()
                assert error(ours_kept[:, :end], kept[:, :end]) <= 1e-3  # a tie in bfloat16 here and there
    if shape.rank:
        packed = kernels.pack_layer(made.layer)
        assert not torch.equal(*(kernels.layer(x, [packed], rotation, [copies(texts)], on)[0] for on in (True, False)))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("count", (1, 3, 5))
def test_neither_neighbours_nor_threads_change_a_bit(shape: Shape, count: int, threads: None) -> None:
    made = Made(shape)
    packed = kernels.pack_layer(made.layer)
    x, rotation, texts = made.x(6), made.rotation(6), made.texts([(40, 4), (7, 2)])
    together, (ids,) = kernels.layer(x, [packed], rotation, [copies(texts)], True)
    torch.set_num_threads(count)
    alone, row = [], 0
    for text in copies(texts):
        for i in range(text.rows):
            part = slice(row, row + 1)
            own = text._replace(start=text.start + i, rows=1)
            y, (chosen,) = kernels.layer(x[part], [packed], [turn[part] for turn in rotation], [[own]], True)
            assert torch.equal(chosen, ids[part])
            alone.append(y)
            row += 1
    assert torch.equal(torch.cat(alone), together)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_layers_in_one_call_are_layers_one_by_one(shape: Shape) -> None:
    many = [Made(shape, seed) for seed in range(3)]
    packed = [kernels.pack_layer(made.layer) for made in many]
    x, rotation = many[0].x(5), many[0].rotation(5)
    texts = [made.texts([(30, 3), (9, 2)]) for made in many]
    together, ids = kernels.layer(x, packed, rotation, [copies(own) for own in texts], True)
    for each, own, chosen in zip(packed, texts, ids, strict=True):
        x, (found,) = kernels.layer(x, [each], rotation, [copies(own)], True)
        assert torch.equal(found, chosen)
    assert torch.equal(x, together)


def test_what_does_not_fit_is_said() -> None:
    made, experts = Made(DENSE["one-group"]), Made(LATENT["viable-small"])

    def said(layer: Layer, **half: object) -> str:
        return str(kernels.layer_problem(layer._replace(attention=layer.attention._replace(**half))))

    assert "width 48" in said(made.layer, width=48)
    assert "latents of width 128" in said(experts.layer, rotary=24)
    biased = made.layer.feed_forward.down._replace(bias=torch.zeros(64))
    assert "biases" in str(
        kernels.layer_problem(made.layer._replace(feed_forward=made.layer.feed_forward._replace(down=biased)))
    )
    limited = experts.layer.feed_forward._replace(routing=SMALL._replace(threshold=0.5))
    assert "threshold" in str(kernels.layer_problem(experts.layer._replace(feed_forward=limited)))
    with backend.use("aten"):
        out, expert = made.weights.product(64, 64), made.weights.packed(512, 96)
        assert "no backend 'aten'" in said(made.layer, out=out)
    assert "another backend" in said(made.layer, out=out)
    other = experts.layer.feed_forward._replace(down=(*experts.layer.feed_forward.down[1:], expert))
    assert "another backend" in str(kernels.layer_problem(experts.layer._replace(feed_forward=other)))
    packed, texts = kernels.pack_layer(made.layer), made.texts([(4, 2)])
    with pytest.raises(ValueError, match="expected \\[2, 64\\]"):
        kernels.layer(torch.zeros(3, 64), [packed], made.rotation(3), [texts], False)
    with pytest.raises(ValueError, match="9 rows from position 4"):
        kernels.layer(torch.zeros(9, 64), [packed], made.rotation(9), [[texts[0]._replace(rows=9)]], False)

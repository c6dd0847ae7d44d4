"""A layer in one call against the same op by op: odd sizes, several texts, an adapter, any number of threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

import kernels
from kernels import backend, native
from kernels.layer import Layer, Product, Text
from tests.kernels.test_pairs import error

BOUND = 2e-4
"""Of a row's maximum, twice eight bits are steps of 3e-5; four products one behind the other round to them, and a last
bit that differs in front of one can be a step behind it. A new key is rounded to bfloat16 besides."""

pytestmark = pytest.mark.skipif(not native.lanes(), reason="no such instructions here")


class Made:
    """A layer of random weights, and texts of the given (start, rows) with caches that are full up to the start."""

    def __init__(
        self, width: int, heads: int, groups: int, head: int, inner: int, rank: int, bias: bool = True
    ) -> None:
        self.random = torch.Generator().manual_seed(width + heads + rank)
        queries = (heads + 2 * groups) * head
        self.layer = Layer(
            1 + self.numbers(width) / 9,
            1 + self.numbers(width) / 9,
            1e-6,
            self._product(queries, width, rank, bias),
            self._product(width, heads * head, rank, False),
            self._product(2 * inner, width, rank, False),
            self._product(width, inner, rank, False),
            groups,
            head,
        )

    def numbers(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random)

    def _packed(self, rows: int, columns: int) -> kernels.Packed:
        codes = torch.randint(-127, 128, (rows, columns), generator=self.random, dtype=torch.int8)
        return kernels.pack_int8(codes, torch.rand(rows, generator=self.random) / (60 * columns**0.5))

    def _product(self, rows: int, columns: int, rank: int, bias: bool) -> Product:
        pair = (self._packed(rank, columns), self._packed(rows, rank)) if rank else None
        return Product(self._packed(rows, columns), self.numbers(rows) if bias else None, pair)

    def texts(self, places: Sequence[tuple[int, int]]) -> list[Text]:
        found = []
        for start, rows in places:
            keys, values = (
                torch.full((self.layer.groups, start + rows + 3, self.layer.width), torch.nan).bfloat16() for _ in "kv"
            )
            for part in (keys, values):
                part[:, :start] = self.numbers(self.layer.groups, start, self.layer.width).bfloat16()
            found.append(Text(start, rows, keys, values))
        return found

    def rotation(self, rows: int) -> tuple[Tensor, Tensor]:
        angles = self.numbers(rows, self.layer.width // 2)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)


def copies(texts: Sequence[Text]) -> list[Text]:
    return [text._replace(keys=text.keys.clone(), values=text.values.clone()) for text in texts]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


SHAPES = [(896, 14, 2, 64, 4864, 16), (64, 2, 1, 32, 96, 0), (128, 3, 3, 128, 160, 24), (96, 8, 2, 64, 32, 8)]
PLACES = [[(0, 1)], [(511, 1)], [(0, 7)], [(33, 3)], [(5, 1), (64, 2), (0, 3)], [(100, 32)]]


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_call_equals_op_by_op(shape: tuple[int, ...], places: list[tuple[int, int]]) -> None:
    made = Made(*shape, bias=shape[0] != 64)
    rows = sum(count for _, count in places)
    x, rotation, texts = made.numbers(rows, shape[0]), made.rotation(rows), made.texts(places)
    assert kernels.layer_problem(made.layer) is None
    for adapted in (True, False):
        found = []
        for name in ("vnni", backend.REFERENCE):
            own = copies(texts)
            with backend.use(name):
                packed = kernels.pack_layer(made.layer)
            before = x.clone()
            found.append((kernels.layer(x, packed, rotation, own, adapted), own))
            assert torch.equal(x, before)
        (ours, our_texts), (expected, expected_texts) = found
        assert error(ours - x, expected - x) <= BOUND
        for one, other in zip(our_texts, expected_texts, strict=True):
            for ours_kept, kept in ((one.keys, other.keys), (one.values, other.values)):
                end = one.start + one.rows
                assert ours_kept[:, end:].isnan().all()
                assert error(ours_kept[:, :end], kept[:, :end]) <= 1e-3  # a tie in bfloat16 here and there
    if shape[-1]:
        assert not torch.equal(
            *(kernels.layer(x, kernels.pack_layer(made.layer), rotation, copies(texts), on) for on in (True, False))
        )


@pytest.mark.parametrize("count", (1, 3, 5))
def test_neither_neighbours_nor_threads_change_a_bit(count: int, threads: None) -> None:
    made = Made(*SHAPES[0])
    packed = kernels.pack_layer(made.layer)
    x, rotation, texts = made.numbers(6, 896), made.rotation(6), made.texts([(40, 4), (7, 2)])
    together = kernels.layer(x, packed, rotation, copies(texts), True)
    torch.set_num_threads(count)
    alone, row = [], 0
    for text in copies(texts):
        for i in range(text.rows):
            part = slice(row, row + 1)
            own = text._replace(start=text.start + i, rows=1)
            alone.append(kernels.layer(x[part], packed, (rotation[0][part], rotation[1][part]), [own], True))
            row += 1
    assert torch.equal(torch.cat(alone), together)


def test_what_does_not_fit_is_said() -> None:
    made = Made(64, 2, 1, 32, 96, 0)
    odd = made.layer._replace(width=48)
    assert "width 48" in str(kernels.layer_problem(odd))
    biased = made.layer._replace(down=made.layer.down._replace(bias=torch.zeros(64)))
    assert "biases" in str(kernels.layer_problem(biased))
    with backend.use("aten"):
        other = made.layer._replace(out=made._product(64, 64, 0, False))
        assert "no backend 'aten'" in str(kernels.layer_problem(other))
    assert "another backend" in str(kernels.layer_problem(other))
    packed, texts = kernels.pack_layer(made.layer), made.texts([(4, 2)])
    with pytest.raises(ValueError, match="expected \\[2, 64\\]"):
        kernels.layer(torch.zeros(3, 64), packed, made.rotation(3), texts, False)
    with pytest.raises(ValueError, match="9 rows from position 4"):
        kernels.layer(torch.zeros(9, 64), packed, made.rotation(9), [texts[0]._replace(rows=9)], False)

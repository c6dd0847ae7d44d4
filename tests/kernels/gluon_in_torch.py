"""Kernels written in Gluon, run on a CPU by PyTorch: Triton's interpreter does not know the language.

A kernel's own Python is called with a stand-in for `gl`: layouts are passed over, and shared memory is a tensor. What
is copied there is missing until the program waits for it. Programs are threads; barriers between them are real. Every
address is looked up in the tensors that a test names, so that a read or write outside them is an error, and `Launch`
keeps what each program read and wrote between which barriers: see `races`.

This checks what is computed and in which order, not that it fits a GPU: compiling does that.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from itertools import product as product_of
from typing import Any, NamedTuple

import torch

from kernels.weights import PLACES

NAMES = {torch.float32: 32, torch.bfloat16: 16, torch.float16: 16, torch.int32: 32, torch.int64: 64, torch.int8: 8}


class Element(NamedTuple):
    """What a pointer points at."""

    dtype: torch.dtype

    @property
    def primitive_bitwidth(self) -> int:
        return NAMES[self.dtype]

    @property
    def element_ty(self) -> Element:
        return self


class Block(torch.Tensor):
    """A tensor with the methods that Gluon names otherwise."""

    def to(self, kind: Any) -> Block:  # type: ignore[override]
        return super().to(kind.dtype if isinstance(kind, Element) else kind)

    def split(self) -> tuple[Any, Any]:  # type: ignore[override]
        return self[..., 0], self[..., 1]


def block(x: Any) -> Block:
    return torch.as_tensor(x).as_subclass(Block)


class Pointer(NamedTuple):
    address: Any
    """Of every element: int64, or one number."""
    dtype: Element

    def __add__(self, offset: Any) -> Pointer:  # type: ignore[override]
        return Pointer(self.address + offset * (NAMES[self.dtype.dtype] // 8), self.dtype)


class Room(NamedTuple):
    """Shared memory."""

    numbers: torch.Tensor

    def load(self, _: Any) -> Block:
        return block(self.numbers.clone())

    def store(self, x: torch.Tensor) -> None:
        assert x.shape == self.numbers.shape
        self.numbers.copy_(x)

    def permute(self, order: Sequence[int]) -> Room:
        return Room(self.numbers.permute(list(order)))

    def slice(self, start: int, length: int, dim: int) -> Room:
        return Room(self.numbers.narrow(dim, start, length))


class Moment(NamedTuple):
    """When a program did something."""

    arrived: int
    """Barriers that it had come to."""
    passed: int
    """Barriers that it knew all programs to have come to."""


Accesses = dict[Moment, set[int]]


class Barrier:
    """The count that programs wait for, in the memory that a GPU would have it in."""

    def __init__(self, counter: torch.Tensor, programs: int) -> None:
        self._counter = counter
        self._programs = programs
        self._changed = threading.Condition()
        self.failed = False

    def arrive(self, last: int | None = None) -> None:
        """last: the count behind which it begins anew."""
        with self._changed:
            self._counter[0] = 0 if self._counter[0] == last else self._counter[0] + 1
            self._changed.notify_all()

    def fail(self) -> None:
        with self._changed:
            self.failed = True
            self._changed.notify_all()

    def wait(self, low: int, high: int | None, passed: int) -> int:
        """Barriers that all programs have come to. high: where the count begins anew."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.failed or (low <= self._counter[0] and (high is None or self._counter[0] < high))
            )
            if self.failed:
                raise RuntimeError("another program failed")
        if high is None or low:
            return low // self._programs
        return 2 if passed else 0  # a small count says something to those alone who have seen a large one

    def add(self, place: int, number: int) -> int:
        with self._changed:
            before = int(self._counter[place])
            self._counter[place] += number
            return before


class Launch:
    """Memory as one program sees it, and what it did with it."""

    def __init__(self, tensors: Sequence[torch.Tensor], barrier: Barrier) -> None:
        self._flat = [(x.untyped_storage().data_ptr(), x.untyped_storage().nbytes(), x) for x in tensors]
        self._barrier = barrier
        self._now = Moment(0, 0)
        self._copies: list[list[tuple[Room, Block]]] = [[]]
        self.read: Accesses = {}
        self.written: Accesses = {}

    def arrive(self, _: Pointer, last: int | None = None) -> None:
        self._barrier.arrive(last)
        self._now = self._now._replace(arrived=self._now.arrived + 1)

    def wait(self, _: Pointer, low: Any, high: int | None = None) -> None:
        passed = self._now.passed
        self._now = self._now._replace(passed=max(passed, self._barrier.wait(int(low), high, passed)))

    def atomic_add(self, pointer: Pointer, number: int) -> int:
        (place,) = (i for i in range(2) if pointer.address == self._barrier._counter.data_ptr() + 4 * i)
        return self._barrier.add(place, number)

    def copy(self, room: Room, pointer: Pointer, mask: Any = None) -> None:
        self._copies[-1].append((room, self.load(pointer, mask, 0)))
        room.numbers.fill_(99)

    def prefetched(self, pointer: Pointer, size: int) -> None:
        """It changes nothing; what it names must be there."""
        for at in (0, size - 1):
            self._view(torch.as_tensor(pointer.address + at // 16 * 16), pointer)

    def commit_group(self) -> None:
        self._copies.append([])

    def wait_group(self, most: int) -> None:
        assert not self._copies[-1], "copies that were not committed are waited for"
        while len(self._copies) - 1 > most:
            for room, numbers in self._copies.pop(0):
                room.numbers.copy_(numbers)

    def load(self, pointer: Pointer, mask: Any = None, other: Any = 0) -> Block:
        at, mask = _masked(pointer, mask)
        found = torch.zeros(at.shape, dtype=pointer.dtype.dtype)
        if mask is not None:
            found[...] = torch.as_tensor(other).to(found.dtype)
            if mask.any():
                numbers, place = self._view(at[mask], pointer)
                self._note(self.read, at[mask])
                found[mask] = numbers[place]
            return block(found)
        numbers, place = self._view(at, pointer)
        self._note(self.read, at)
        return block(numbers[place])

    def store(self, pointer: Pointer, x: Any, mask: Any = None) -> None:
        at, mask = _masked(pointer, mask)
        x = torch.as_tensor(x).to(pointer.dtype.dtype).broadcast_to(at.shape).as_subclass(torch.Tensor)
        if mask is not None:
            at, x = at[mask], x[mask]
        if at.numel():
            numbers, place = self._view(at, pointer)
            assert place.unique().numel() == place.numel(), "one address is written twice"
            numbers[place] = x
            self._note(self.written, at)

    def _note(self, notes: Accesses, at: torch.Tensor) -> None:
        notes.setdefault(self._now, set()).update(at.flatten().tolist())

    def _view(self, at: torch.Tensor, pointer: Pointer) -> tuple[torch.Tensor, torch.Tensor]:
        low, high = int(at.min()), int(at.max())
        size = NAMES[pointer.dtype.dtype] // 8
        for begin, length, x in self._flat:
            if begin <= low and high + size <= begin + length:
                assert x.dtype == pointer.dtype.dtype, f"{x.dtype} is read as {pointer.dtype.dtype}"
                whole = torch.as_strided(x, (length // size,), (1,), 0)
                return whole, (at - begin) // size
        raise IndexError(f"addresses {low} to {high} lie in no tensor that was named")


def _masked(pointer: Pointer, mask: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    at = torch.as_tensor(pointer.address)
    if mask is None:
        return at.as_subclass(torch.Tensor), None
    at, mask = torch.broadcast_tensors(at, torch.as_tensor(mask))
    return at.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)


def _unpack(words: torch.Tensor, factors: torch.Tensor) -> Block:
    """[…, 8 times the same, N] words and factors -> what the codes stand for; see `kernels.weights.Four`."""
    shifts = 4 * torch.tensor(PLACES).view(8, 1)
    codes = ((words.long() >> shifts) & 15).double()
    step = (factors.int() << 16).view(torch.float32).double()
    offset = (factors.int() & -65536).view(torch.float32).double()
    return block(((codes - 8) * step + offset).float().to(torch.bfloat16))


class Language:
    """What stands in for `gl`, for one program."""

    float32, bfloat16, int32, int64 = torch.float32, torch.bfloat16, torch.int32, torch.int64
    static_range = range

    def __init__(self, launch: Launch, program: int, turn: Sequence[int], programs: int) -> None:
        self.load, self.store, self.atomic_add = launch.load, launch.store, launch.atomic_add
        self._place, self._programs = (program, *turn), programs

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.endswith("Layout"):
            raise AttributeError(f"gl.{name} has no stand-in")
        return lambda *_: None

    def program_id(self, axis: int) -> Block:
        return block(self._place[axis])

    def num_programs(self, axis: int) -> int:
        assert axis == 0
        return self._programs

    def arange(self, first: int, last: int, layout: Any) -> Block:
        return block(torch.arange(first, last))

    def zeros(self, shape: Sequence[int], dtype: torch.dtype, layout: Any) -> Block:
        return block(torch.zeros(*shape, dtype=dtype))

    def full(self, shape: Sequence[int], value: float, dtype: torch.dtype, layout: Any) -> Block:
        return block(torch.full(list(shape), value, dtype=dtype))

    def allocate_shared_memory(self, kind: Any, shape: Sequence[int], layout: Any) -> Room:
        dtype = kind.dtype if isinstance(kind, Element) else kind
        return Room(torch.full(list(shape), 99, dtype=dtype))

    def convert_layout(self, x: Any, layout: Any, assert_trivial: bool = False) -> Any:
        return x

    def broadcast(self, x: Any, y: Any) -> Any:
        return torch.broadcast_tensors(x, y)

    def inline_asm_elementwise(self, asm: str, constraints: str, args: Any, **_: Any) -> Block:
        if "cvt.rn.bf16x2" in asm:  # eight bits, times a factor
            return block((args[0].float() * args[1]).to(torch.bfloat16))
        assert "lop3" in asm, "only codes of four and eight bits are known here"
        return _unpack(*args)

    def minimum(self, x: Any, y: Any) -> Any:
        return torch.minimum(block(x), block(y))

    def maximum(self, x: Any, y: Any) -> Any:
        x, y = block(x), block(y)
        return torch.maximum(x, y.to(x.dtype) if x.is_floating_point() else y)

    def where(self, mask: Any, x: Any, y: Any) -> Any:
        return torch.where(block(mask), block(x), block(y))

    def max(self, x: Any, axis: int) -> Any:
        return x.amax(axis)

    def sum(self, x: Any, axis: int) -> Any:
        return x.sum(axis)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        return x * y + z

    exp, exp2, log2, rsqrt = (staticmethod(f) for f in (torch.exp, torch.exp2, torch.log2, torch.rsqrt))
    abs = staticmethod(torch.abs)


def product(a: Any, b: Any, sums: Any) -> Any:
    return sums + a.float() @ b.float()


def seen_as(room: Room, dtype: torch.dtype, shape: Sequence[int], _: Any) -> Room:
    return Room(room.numbers.view(-1).view(dtype).view(list(shape)))


def run(
    kernel: Any,
    given: dict[str, Any],
    programs: int,
    tensors: Sequence[torch.Tensor],
    counter: torch.Tensor,
    turn: Sequence[int] = (0,),
) -> list[Launch]:
    """Call a kernel for each program. given: its arguments by name. tensors: all memory that it may touch.

    counter: int32 [2], what `arrive` and `wait` count in. turn: the programs' other numbers.
    Returns what each program did.
    """
    barrier = Barrier(counter, programs)
    launches = [Launch(tensors, barrier) for _ in range(programs)]
    arguments = {
        name: Pointer(x.data_ptr(), Element(x.dtype)) if isinstance(x, torch.Tensor) else x for name, x in given.items()
    }

    def work(program: int) -> None:
        try:
            _in_python(kernel, Language(launches[program], program, turn, programs), launches[program])(**arguments)
        except BaseException:
            barrier.fail()
            raise

    with ThreadPoolExecutor(programs) as pool:
        for done in [pool.submit(work, program) for program in range(programs)]:
            if (error := done.exception()) and "another program" not in str(error):
                raise error
    return launches


class Replaced:
    """A kernel as its launcher calls it. Programs do not wait for one another, and none touches what another writes.

    tensors: what it may touch besides the tensors that it is given.
    """

    def __init__(self, kernel: Any, *tensors: torch.Tensor) -> None:
        self._kernel = kernel
        self._tensors = tensors
        self.launches = 0

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def start(*values: Any, **named: Any) -> None:
            names = self._kernel.arg_names
            given = dict(zip(names, values, strict=False)) | {k: v for k, v in named.items() if k in names}
            memory = [*self._tensors, *(value for value in given.values() if isinstance(value, torch.Tensor))]
            found = [
                launch
                for turn in product_of(*(range(count) for count in grid[1:]))
                for launch in run(self._kernel, given, grid[0], memory, torch.zeros(2, dtype=torch.int32), turn)
            ]
            assert races(found) == 0
            self.launches += 1

        return start


def races(launches: Sequence[Launch]) -> int:
    """Pairs of moments at which two programs touched one address, one of them writing, and neither before the other.

    What a program did before it came to barrier n is before what another did knowing that all had come there.
    """
    found = 0
    for mine, other in permutations(launches, 2):
        for when, addresses in mine.written.items():
            for accesses in (other.read, other.written):
                for then, touched in accesses.items():
                    apart = when.arrived < then.passed or then.arrived < when.passed
                    found += not apart and not addresses.isdisjoint(touched)
    return found


def _in_python(kernel: Any, language: Language, launch: Launch) -> Callable[..., None]:
    """The kernel's function, and all that it calls, with stand-ins for what it imports."""
    stand_ins = {
        "gl": language,
        "async_copy": launch,
        "arrive": launch.arrive,
        "wait": launch.wait,
        "prefetched": launch.prefetched,
        "mma_v2": product,
        "copy_async": launch.copy,
        "seen_as": seen_as,
    }
    known: dict[int, Any] = {}

    def of(function: Any) -> Any:
        if id(function) not in known:
            plain = function.fn
            names: dict[str, Any] = {"__builtins__": __builtins__}
            made = types.FunctionType(plain.__code__, names, plain.__name__, plain.__defaults__)
            known[id(function)] = made
            for name, value in plain.__globals__.items():
                if name in stand_ins:
                    names[name] = stand_ins[name]
                elif type(value).__name__ == "GluonJITFunction":
                    names[name] = of(value)
                elif type(value).__name__ == "constexpr":
                    names[name] = value.value
                else:
                    names.setdefault(name, value)
        return known[id(function)]

    found: Callable[..., None] = of(kernel)
    return found

"""Machine code for the processor at hand: functions written instruction by instruction with llvmlite.

They run in PyTorch's own threads: a second pool would wake while the first still waits busily for its next product.
Letters: L lanes, the 32-bit numbers of a vector.
"""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

BARRIER, THREAD, THREADS = "GOMP_barrier", "omp_get_thread_num", "omp_get_num_threads"
_PARALLEL = "GOMP_parallel"
_DONTNEED = 4  # Linux's name for it, from mman.h: of a file's own bytes nothing is lost

Value = Any
"""A value of the function that is being written; llvmlite has no types."""


@cache
def lanes() -> int:
    """L of the widest product of bytes that this processor has (VNNI), 0 where there is none that we can write."""
    if platform.system() != "Linux" or platform.machine() != "x86_64" or find_spec("llvmlite") is None or not _pool():
        return 0
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    if features.get("avx512vnni") and features.get("avx512bw") and features.get("avx512vl"):
        return 16
    return 8 if features.get("avxvnni") and features.get("fma") else 0


@cache
def _pool() -> ctypes.CDLL | None:
    """The OpenMP runtime whose threads PyTorch uses, if it speaks GNU's interface (LLVM's and Intel's do too)."""
    maps = Path("/proc/self/maps").read_text(errors="replace")
    paths = sorted(set(re.findall(r"/\S*/lib(?:g|i)?omp[^/\s]*\.so\S*", maps)), key=lambda path: "torch" not in path)
    for path in paths:
        library = ctypes.CDLL(path)
        if all(hasattr(library, name) for name in (_PARALLEL, BARRIER, THREAD, THREADS)):
            return library
    return None


class Code:
    """A module of functions, and once it is compiled the memory that they lie in."""

    def __init__(self, lanes: int) -> None:
        from llvmlite import ir

        self.lanes = lanes
        self.module = ir.Module("kernels")
        self._engine: Any = None

    def function(self, name: str, arguments: Sequence[Any]) -> Writer:
        """A writer at the beginning of a new function that returns nothing."""
        from llvmlite import ir

        made = ir.Function(self.module, ir.FunctionType(ir.VoidType(), arguments), name)
        return Writer(self, made)

    def parallel(self, name: str) -> Parallel:
        """The function of this name, which takes an address; nothing can be added to the module from then on."""
        if self._engine is None:
            self._engine = _compiled(str(self.module))
        return Parallel(self._engine.get_function_address(name), self)


def soon(write: Callable[[], Parallel]) -> Future[Parallel]:
    """What `write` makes, made beside what goes on here: while a model is loaded there is time to compile."""
    return _compilers.submit(write)


_compilers = ThreadPoolExecutor(1, "compiler")


class Parallel(NamedTuple):
    """A function that all of PyTorch's threads run at once."""

    address: int
    code: Code

    def __call__(self, task: ctypes.Array[ctypes.c_int64]) -> None:
        pool = _pool()
        assert pool is not None
        pool.GOMP_parallel(ctypes.c_void_p(self.address), task, torch.get_num_threads(), 0)


def _compiled(text: str) -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in (BARRIER, THREAD, THREADS):
        llvm.add_symbol(name, ctypes.cast(getattr(_pool(), name), ctypes.c_void_p).value)
    features = llvm.get_host_cpu_features().flatten()
    # What is written here is already in registers and unrolled: passes over it would cost more than they gain.
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=2
    )
    module = llvm.parse_assembly(text)
    module.verify()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _give_back()
    return engine


def _give_back() -> None:
    """What compiling took: the compiler's own code, which is read from its file again if it is needed, and its heap."""
    libc = ctypes.CDLL(None)
    maps = Path("/proc/self/maps").read_text(errors="replace")
    for start, end in re.findall(r"(?m)^(\w+)-(\w+) r-xp .*libllvmlite", maps):
        begin = int(start, 16)
        libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(int(end, 16) - begin), _DONTNEED)
    if hasattr(libc, "malloc_trim"):  # glibc's
        libc.malloc_trim(0)


class Writer:
    """Writes one function. Vectors have L lanes; offsets count elements of the type that is read or written."""

    def __init__(self, code: Code, function: Any) -> None:
        from llvmlite import ir

        self.code = code
        self.arguments = function.args
        self.to = ir.IRBuilder(function.append_basic_block())
        self.i8, self.i16, self.i32, self.i64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
        self.f32, self.half, self.pointer = ir.FloatType(), ir.HalfType(), ir.PointerType()
        self.bytes, self.halves, self.ints, self.floats = (
            ir.VectorType(kind, code.lanes) for kind in (self.i8, self.i16, self.i32, self.f32)
        )
        self._ir = ir

    def number(self, value: int) -> Value:
        return self._ir.Constant(self.i64, value)

    def small(self, value: int) -> Value:
        """The same of 32 bits."""
        return self._ir.Constant(self.i32, value)

    def real(self, value: float) -> Value:
        return self._ir.Constant(self.f32, value)

    def each(self, value: float) -> Value:
        """The same number in each lane: a float or, of an int, an integer."""
        return self._ir.Constant(self.ints if isinstance(value, int) else self.floats, [value] * self.code.lanes)

    def ladder(self, first: int) -> Value:
        """`first` in the first lane, and one more in each."""
        return self.constant(self.ints, range(first, first + self.code.lanes))

    def vector(self, kind: Any, lanes: int) -> Any:
        return self._ir.VectorType(kind, lanes)

    def constant(self, vector: Any, values: Sequence[int]) -> Value:
        return self._ir.Constant(vector, list(values))

    def spread(self, value: Value) -> Value:
        """A number that is computed, in each lane."""
        vector = self._ir.VectorType(value.type, self.code.lanes)
        nothing = self._ir.Constant(vector, self._ir.Undefined)
        first = self.to.insert_element(nothing, value, self._ir.Constant(self.i32, 0))
        return self.to.shuffle_vector(first, nothing, self._ir.Constant(self.ints, [0] * self.code.lanes))

    def at(self, base: Value, offset: Value, kind: Any) -> Value:
        """The place `offset` elements of `kind` behind `base`."""
        return self.to.gep(base, [self.number(offset) if isinstance(offset, int) else offset], source_etype=kind)

    def load(self, base: Value, offset: Value, kind: Any) -> Value:
        """A number, or a vector of as many neighbours."""
        element = getattr(kind, "element", kind)
        return self.to.load(self.at(base, offset, element), typ=kind, align=self._aligned(element))

    def fours(self, bytes_: Value) -> list[Value]:
        """The L bytes of a vector, four at a time, as numbers of 32 bits."""
        count = self.code.lanes // 4
        words = self.to.bitcast(bytes_, self._ir.VectorType(self.i32, count))
        return [self.to.extract_element(words, self._ir.Constant(self.i32, j)) for j in range(count)]

    def store(self, value: Value, base: Value, offset: Value) -> None:
        element = getattr(value.type, "element", value.type)
        self.to.store(value, self.at(base, offset, element), align=self._aligned(element))

    def _aligned(self, element: Any) -> int:
        """Bytes: what is in memory lies at multiples of its elements."""
        return 4 if element == self.f32 else element.width // 8

    def field(self, task: Value, fields: Sequence[str], name: str, kind: Any = None) -> Value:
        """A field of a task: eight bytes each, an address unless `kind` says something else."""
        place = self.at(task, fields.index(name), self.i64)
        return self.to.load(place, typ=kind or self.pointer, align=8)

    def widened(self, base: Value, offset: int) -> Value:
        """Neighbours in bfloat16, as floats."""
        bits = self.to.zext(self.load(base, offset, self.halves), self.ints)
        return self.to.bitcast(self.to.shl(bits, self.each(16)), self.floats)

    def narrowed(self, floats: Value) -> Value:
        """Floats as bfloat16, a tie to the even one: for what is not NaN."""
        bits = self.to.bitcast(floats, self.ints)
        odd = self.to.and_(self.to.lshr(bits, self.each(16)), self.each(1))
        return self.to.trunc(
            self.to.lshr(self.to.add(bits, self.to.add(odd, self.each(0x7FFF))), self.each(16)), self.halves
        )

    def rounded(self, floats: Value) -> Value:
        """Floats that are whole numbers, as integers; NaN as 0."""
        lanes = self.code.lanes
        return self.call(f"llvm.fptosi.sat.v{lanes}i32.v{lanes}f32", floats, returns=self.ints)

    def call(self, name: str, *arguments: Value, returns: Any = None) -> Value:
        """A function of this module or of the world outside."""
        found = self.code.module.globals.get(name)
        if found is None:
            kind = self._ir.FunctionType(returns or self._ir.VoidType(), [argument.type for argument in arguments])
            found = self._ir.Function(self.code.module, kind, name)
        return self.to.call(found, arguments)

    def math(self, name: str, *arguments: Value) -> Value:
        """One of LLVM's functions on floats, lane by lane: fabs, fma, maximum, …"""
        kind = arguments[0].type
        suffix = f"v{self.code.lanes}f32" if kind == self.floats else "f32"
        return self.call(f"llvm.{name}.{suffix}", *arguments, returns=kind)

    def picked(self, first: Value, second: Value, lanes: Sequence[int]) -> Value:
        """Lanes of two vectors, those of the second counted from L on."""
        chosen = self._ir.Constant(self._ir.VectorType(self.i32, len(lanes)), list(lanes))
        return self.to.shuffle_vector(first, second, chosen)

    def totals(self, vectors: Iterator[Value]) -> Value:
        """The sums of L vectors, each in the lane of its vector's number; they are added up as they come.

        Two vectors that hold the parts of m sums each become one with those of 2m, half as many parts of each.
        """
        lanes = self.code.lanes
        waiting: list[tuple[Value, int]] = []
        for vector in vectors:
            held, parts = vector, lanes
            while waiting and waiting[-1][1] == parts:
                before, _ = waiting.pop()
                near = [group + lane for group in range(0, 2 * lanes, parts) for lane in range(parts // 2)]
                far = [lane + parts // 2 for lane in near]
                held = self.to.fadd(self.picked(before, held, near), self.picked(before, held, far))
                parts //= 2
            waiting.append((held, parts))
        ((found, _),) = waiting
        return found

    def total(self, vector: Value) -> Value:
        """The sum of the lanes, in pairs of pairs."""
        name = f"llvm.vector.reduce.fadd.v{self.code.lanes}f32"
        kind = self._ir.FunctionType(self.f32, [self.f32, self.floats])
        found = self.code.module.globals.get(name) or self._ir.Function(self.code.module, kind, name)
        return self.to.call(found, [self.real(-0.0), vector], fastmath=("reassoc",))

    def largest(self, vector: Value) -> Value:
        """The largest lane; NaN if one is."""
        return self.call(f"llvm.vector.reduce.fmaximum.v{self.code.lanes}f32", vector, returns=self.f32)

    def fold(
        self,
        start: Value,
        stop: Value,
        step: Value,
        first: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value] | None],
    ) -> list[Value]:
        """for i in range(start, stop, step): values = body(i, values), beginning with `first`; the last values."""
        start, stop, step = (self.number(value) if isinstance(value, int) else value for value in (start, stop, step))
        before = self.to.block
        head, inner, after = (self.to.append_basic_block() for _ in range(3))
        self.to.branch(head)
        self.to.position_at_end(head)
        index = self.to.phi(self.i64)
        values = [self.to.phi(value.type) for value in first]
        self.to.cbranch(self.to.icmp_signed("<", index, stop), inner, after)
        self.to.position_at_end(inner)
        found = body(index, values) or []
        end = self.to.block
        following = self.to.add(index, step)
        self.to.branch(head)
        for phi, was, becomes in zip([index, *values], [start, *first], [following, *found], strict=True):
            phi.add_incoming(was, before)
            phi.add_incoming(becomes, end)
        self.to.position_at_end(after)
        return values

    def choose(self, which: Value, numbers: Sequence[int], write: Callable[[int], object]) -> None:
        """What `write` writes for the one of `numbers` that `which` is."""
        here, after = self.to.block, self.to.append_basic_block()
        blocks = [self.to.append_basic_block() for _ in numbers]
        for number, block in zip(numbers, blocks, strict=True):
            self.to.position_at_end(block)
            write(number)
            self.to.branch(after)
        self.to.position_at_end(here)
        switch = self.to.switch(which, blocks[-1])
        for number, block in zip(numbers[:-1], blocks, strict=False):
            switch.add_case(self.number(number), block)
        self.to.position_at_end(after)

    def when(self, condition: Value, write: Callable[[], object]) -> None:
        """Only where the condition holds."""
        with self.to.if_then(condition):
            write()

    def end(self) -> None:
        self.to.ret_void()

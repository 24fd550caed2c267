"""Tiles for matrix products: which sizes to try on a GPU, and a model of what each costs.

The model counts the cycles of a multiprocessor: those that its matrix units, its shared memory, its share of
the memory and its instruction issue need for the tiles that fall to it, and those for which a tile waits. It
orders configurations; it does not predict times.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping

from dlc.backends.triton import tiles
from dlc.backends.triton.templates.contraction_form import LEAST_DEPTH, Form
from dlc.backends.triton.templates.contraction_split import divided_axis
from dlc.ir.dims import Dim, evaluate, free_symbols
from dlc.lowering import expr as e
from dlc.target import GpuTarget

#: Into how many parts the depth is divided where tiles are few.
_CHUNKS = (2, 3, 4, 6, 8, 12, 16)
#: How many candidates are given.
_CANDIDATES = 8
#: Sizes that symbols are taken to have where nothing is known; the choice is the best of all on average.
_GUESSES = (1, 8, 64, 512)
#: Products of two f16 numbers a cycle and multiprocessor, by architecture (data sheets); of f32 it is 128.
_RATES: Mapping[int | str, int] = {80: 1024, 86: 512, 89: 512, 90: 2048, 100: 4096, 120: 512}
_RATE = 1024
_SCALAR_RATE = 128
#: Multiples of the f16 rate, by the bits of operands.
_SPEED = {8: 2.0, 16: 1.0, 32: 0.5}
#: Bytes a cycle and multiprocessor of shared memory and of the L2 cache.
_SHARED_RATE, _CACHE_RATE = 128, 48
#: Cycles until memory answers, of a launch, of a tile until its first step, and of the barriers of a step.
_LATENCY, _LAUNCH, _START, _BARRIERS = 700, 3000, 300, 60
_CLOCK = 1.7e9
_THREADS_OF_MULTIPROCESSOR = 2048
#: Instructions that an element costs that goes through registers, in steps and in the epilogue.
_INSTRUCTIONS = 6
#: Functions that are many instructions, which hold registers besides the sums.
_COSTLY = frozenset(
    "exp log log1p sigmoid softplus erf pow sin cos tan asin acos atan sinh cosh tanh".split()
)
#: Registers of a thread that may be in use by the model; beyond the compiler spills.
_REGISTERS = 184


@dataclasses.dataclass(frozen=True)
class Config:
    """The block sizes of a tile, how it is run, and the parts that the depth is divided into."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    chunks: int = 1


def candidates(form: Form, target: GpuTarget) -> list[Config]:
    """Configurations for a contraction, the best first; the last one is small enough for any epilogue."""
    problems = [_Problem(form, target, guess) for guess in _guesses(form)]
    costs: dict[Config, float] = {}
    found = [config for config in _possible(form, target) if _registers(form, target, config) <= _REGISTERS]
    found = found or [_least(form)]
    found += [config for config in _divided(form, found) if problems[0].is_short(config)]
    for problem in problems:
        times = {config: problem.cycles(config) for config in found}
        best = min(times.values())
        for config, time in times.items():
            costs[config] = costs.get(config, 0.0) + time / best
    ordered = sorted(found, key=lambda config: (costs[config], dataclasses.astuple(config)))
    # Of each tile the two best ways to run it.
    seen: dict[tuple[int, int, bool], int] = {}
    chosen = []
    for config in ordered:
        tile = (config.rows, config.columns, config.chunks > 1)
        seen[tile] = seen.get(tile, 0) + 1
        if seen[tile] <= 2:
            chosen.append(config)
    return list(dict.fromkeys((*chosen[: _CANDIDATES - 1], _least(form))))


def _guesses(form: Form) -> list[dict[str, int]]:
    """Numbers for the symbols of the extents: one case if there are none."""
    extents = [axis.extent for axis in (*form.batch, *form.rows, *form.columns, *form.reduce)]
    symbols = {symbol for extent in extents for symbol in free_symbols(extent)}
    if not symbols:
        return [{}]
    return [
        {symbol.name: max(symbol.lo or 0, min(guess, symbol.hi or guess)) for symbol in symbols}
        for guess in _GUESSES
    ]


def _sizes(extent: Dim, most: int, least: int = 16) -> list[int]:
    """Powers of two up to what holds the extent."""
    top = tiles.fitting(extent, least, most)
    return [size for size in (16, 32, 64, 128, 256) if least <= size <= top]


def _possible(form: Form, target: GpuTarget) -> Iterator[Config]:
    """Every configuration that has shared memory."""
    rows, columns, depth = (tiles.extent_of(axes) for axes in (form.rows, form.columns, form.inner))
    has_units = target.multiplies(form.operand.text)
    most = 256 if has_units and form.left_access.is_async and form.right_access.is_async else 128
    if not has_units:
        most = 64
    least = LEAST_DEPTH if form.operand.bits >= 16 else 32
    for m in _sizes(rows, min(most, 128)):
        for n in _sizes(columns, most):
            for k in _sizes(depth, 64 if form.operand.bits >= 16 else 128, least):
                if not has_units and k > 32:
                    continue
                for warps in _warps(m * n // target.warp_size):
                    stages = _stages(form, target, m, n, k)
                    if stages:
                        yield Config(m, n, k, warps, stages)


def _warps(sums: int) -> tuple[int, ...]:
    """How many warps may share a tile of so many sums a lane."""
    if sums <= 32:
        return 2, 4
    return tuple(warps for warps in (4, 8) if 8 <= sums // warps <= 128)


def _stages(form: Form, target: GpuTarget, rows: int, columns: int, depth: int) -> int:
    """How many steps ahead operands are copied: as many as there is shared memory for; 0 if there is none."""
    size = form.operand.itemsize * depth * (rows + columns)
    if not (form.left_access.is_async or form.right_access.is_async):
        return 2 if size <= target.shared_bytes else 0
    steps = 4 if target.multiplies(form.operand.text) else 3
    fitting = min(steps, target.shared_bytes // size)
    return fitting if fitting >= 2 else 0


def _least(form: Form) -> Config:
    rows, columns, depth = (tiles.extent_of(axes) for axes in (form.rows, form.columns, form.inner))
    least = LEAST_DEPTH if form.operand.bits >= 16 else 32
    return Config(
        tiles.fitting(rows, 16, 32), tiles.fitting(columns, 16, 32), tiles.fitting(depth, least, 32), 4, 2
    )


def _divided(form: Form, configs: list[Config]) -> Iterator[Config]:
    """The configurations with the depth divided into equal parts."""
    axis = divided_axis(form)
    if axis is None or not isinstance(axis.extent, int) or not form.has_instruction:
        return
    for config, chunks in itertools.product(configs, _CHUNKS):
        length = axis.extent // chunks
        if axis.extent % chunks == 0 and length % config.depth == 0 and length >= 2 * config.depth:
            yield dataclasses.replace(config, chunks=chunks)


def _registers(form: Form, target: GpuTarget, config: Config) -> float:
    """An estimate of the registers of a thread."""
    threads = config.warps * target.warp_size
    sums = config.rows * config.columns / threads
    costly, loads = epilogue_work(form)
    held = 40 + sums * (1.5 if costly else 1.0 + 0.25 * min(loads, 2))
    for access, side in ((form.left_access, config.rows), (form.right_access, config.columns)):
        elements = side * config.depth / threads
        if access.is_async:
            held += elements / access.vector
        else:
            held += elements * (access.bits / 32 + 1 / access.vector)
    if not target.multiplies(form.operand.text):
        held += 16
    return held


def epilogue_work(form: Form) -> tuple[int, int]:
    """The costly functions of an epilogue, and its loads of as many elements as there are sums."""
    values = [store.value for store in form.stores] + [stage.value for stage in form.maps.values()]
    nodes = {node for value in values for node in e.walk(value)}
    costly = sum(1 for node in nodes if isinstance(node, e.Unary | e.Binary) and node.fn in _COSTLY)
    names = [{axis.name for axis in axes if axis.extent != 1} for axes in (form.rows, form.columns)]
    loads = 0
    for node in nodes:
        if isinstance(node, e.Load):
            dims = [entry for entry in node.index if not isinstance(entry, e.Expr)]
            spoken = {symbol.name for dim in dims for symbol in free_symbols(dim)}
            loads += all(not spoken.isdisjoint(side) for side in names)
    return costly, loads


class _Problem:
    """A contraction at known sizes, on a GPU."""

    def __init__(self, form: Form, target: GpuTarget, numbers: Mapping[str, int]) -> None:
        self.form = form
        self.target = target

        def size(axes: tuple[object, ...]) -> int:
            return max(1, evaluate(tiles.extent_of(axes), numbers))  # type: ignore[arg-type]

        self.batch, self.rows, self.columns = size(form.batch), size(form.rows), size(form.columns)
        self.outer, self.depth = size(form.outer), size(form.inner)
        self.memory = target.bandwidth / (target.multiprocessors * _CLOCK)

    def is_short(self, config: Config) -> bool:
        """Whether the tiles, undivided, are too few for the GPU."""
        return self._tiles(config) < self.target.multiprocessors

    def _tiles(self, config: Config) -> int:
        return self.batch * math.ceil(self.rows / config.rows) * math.ceil(self.columns / config.columns)

    def cycles(self, config: Config) -> float:
        """The cycles from the start of the launch to its end, and those of the second one."""
        count = self._tiles(config) * config.chunks
        steps = math.ceil(self.outer * math.ceil(self.depth / config.depth) / config.chunks)
        busy, waits = self._step(config)
        end = _START + self._epilogue(config)
        machine = self.target.multiprocessors
        together = self._together(config)
        # Tiles of one multiprocessor share it; each waits for memory by itself.
        rounds = math.ceil(count / machine)
        shared = rounds * (steps * busy + end)
        alone = math.ceil(count / (machine * together)) * (steps * max(busy, waits) + _LATENCY + end)
        total = _LAUNCH + max(shared, alone, self._traffic())
        if config.chunks == 1:
            return total
        # The sums of chunks go through the cache, there and back.
        sums = config.chunks * self.batch * self.rows * self.columns
        moved = 2 * sums * self.form.contract.out.dtype.itemsize
        return total + _LAUNCH + _LATENCY + moved / (_CACHE_RATE * machine)

    def _together(self, config: Config) -> int:
        """The programs that a multiprocessor has at once."""
        size = config.stages * config.depth * (config.rows + config.columns) * self.form.operand.itemsize
        threads = config.warps * self.target.warp_size
        registers = min(255.0, _registers(self.form, self.target, config)) * threads
        return max(
            1,
            min(
                self.target.shared_bytes // size,
                int(self.target.registers / registers),
                _THREADS_OF_MULTIPROCESSOR // threads,
            ),
        )

    def _step(self, config: Config) -> tuple[float, float]:
        """The cycles that a step keeps the multiprocessor busy, and those from its start to its end."""
        form, size = self.form, self.form.operand.itemsize
        m, n, k = config.rows, config.columns, config.depth
        products = m * n * k / self._rate(config)
        # Each group of warps reads its rows and all columns from shared memory.
        groups = max(1, m // 64) if self.target.has_wgmma else max(1, config.warps // 2)
        reads = (m + n * groups) * k * size / _SHARED_RATE
        issue = 0.0
        loaded = 0.0
        waits = 0.0
        for access, side in ((form.left_access, m), (form.right_access, n)):
            elements = side * k
            loaded += elements * access.bits / 8
            each = 2.0 if access.is_async else _INSTRUCTIONS + access.vector
            issue += elements / access.vector * each / _SCALAR_RATE
            if not access.is_async:
                waits = _LATENCY
        busy = max(products, reads, issue, loaded / _CACHE_RATE)
        if not self.target.multiplies(form.operand.text):
            # Threads read their operands from shared memory themselves; half of the reads are shared.
            threads = config.warps * self.target.warp_size
            words = 2 * math.sqrt(m * n / threads)
            busy = max(products, k * words * threads * 4 / (2 * _SHARED_RATE)) + issue
        busy += _BARRIERS
        return busy, max(busy + waits, _LATENCY / max(1, config.stages - 1))

    def _rate(self, config: Config) -> float:
        """Products a cycle and multiprocessor."""
        operand = self.form.operand
        if not self.target.multiplies(operand.text):
            return 0.7 * _SCALAR_RATE
        rate = _RATES.get(self.target.arch, _RATE) * _SPEED[operand.bits]
        if self.target.has_wgmma and (config.rows < 64 or config.warps % 4):
            rate *= 0.6
        # Short tiles have too few warps to hide the latency of matrix instructions.
        return rate * min(1.0, config.warps / 4) * (1.0 if config.columns >= 32 else 0.5)

    def _epilogue(self, config: Config) -> float:
        costly, loads = epilogue_work(self.form)
        sums = config.rows * config.columns
        return sums * (_INSTRUCTIONS + 4 * loads + 20 * costly) / _SCALAR_RATE

    def _traffic(self) -> float:
        """The cycles for which memory is busy with operands and results, each once."""
        form = self.form
        reduce = self.outer * self.depth
        taps = self.outer if form.contract.spec.windows else 1
        left = self.rows * reduce * form.left_access.bits / 8 / taps
        right = self.columns * reduce * form.right_access.bits / 8
        stored = self.rows * self.columns * sum(store.value.dtype.itemsize for store in form.stores)
        total = self.batch * (left + right + stored)
        return total / (self.memory * self.target.multiprocessors)

"""A model of what a contraction costs on a GPU with tiles of some size.

It counts the cycles of a multiprocessor: those that its matrix units, its shared memory, its share of the
cache and its instruction issue need for the tiles that fall to it, and those for which a tile waits. It
orders configurations; it does not predict times.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from dlc.backends.triton import tiles
from dlc.backends.triton.templates.contraction_form import Form
from dlc.ir.dims import evaluate, free_symbols
from dlc.lowering import expr as e
from dlc.target import GpuTarget

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


@dataclasses.dataclass(frozen=True)
class Config:
    """The block sizes of a tile, how it is run, and the parts that the depth is divided into."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    chunks: int = 1


class CostModel:
    """A contraction on a GPU, whatever its sizes."""

    def __init__(self, form: Form, target: GpuTarget) -> None:
        self.form = form
        self.target = target
        self.has_units = target.multiplies(form.unit.text)
        self.costly, self.loads = _epilogue_work(form)
        self._known: dict[Config, tuple[float, float]] = {}

    def threads(self, config: Config) -> int:
        """The threads of a program."""
        return config.warps * self.target.warp_size

    def registers(self, config: Config) -> float:
        """An estimate of the registers of a thread."""
        form, threads = self.form, self.threads(config)
        sums = config.rows * config.columns / threads
        held = 40 + sums * (1.5 if self.costly else 1.0 + 0.25 * min(self.loads, 2))
        held += sums * (form.accumulators - 1)
        if form.unit.is_float and form.unit.bits == 8:
            held += sums
        for access, side in ((form.left_access, config.rows), (form.right_access, config.columns)):
            elements = side * config.depth / threads
            if access.is_async:
                held += elements / access.vector
            else:
                held += elements * (access.bits / 32 + 1 / access.vector)
        return held if self.has_units else held + 16

    def shared_bytes(self, config: Config) -> int:
        """The shared memory of a program."""
        left, right = self.form.digits
        elements = config.depth * (config.rows * left + config.columns * right)
        return config.stages * elements * self.form.unit.itemsize

    def step(self, config: Config) -> tuple[float, float]:
        """The cycles that a step keeps the multiprocessor busy, and those from its start to its end."""
        key = dataclasses.replace(config, chunks=1)
        if key not in self._known:
            self._known[key] = self._step(config)
        return self._known[key]

    def _step(self, config: Config) -> tuple[float, float]:
        form, size = self.form, self.form.unit.itemsize
        m, n, k = config.rows, config.columns, config.depth
        products = form.dots * m * n * k / self._rate(config)
        # Each group of warps reads its rows and all columns from shared memory.
        groups = max(1, m // 64) if self.target.has_wgmma else max(1, config.warps // 2)
        reads = form.dots * (m + n * groups) * k * size / _SHARED_RATE
        issue, loaded, waits = 0.0, 0.0, 0.0
        for access, side, digits in zip((form.left_access, form.right_access), (m, n), form.digits):
            elements = side * k
            loaded += elements * access.bits / 8
            each = 2.0 if access.is_async else _INSTRUCTIONS * digits + access.vector
            issue += elements / access.vector * each / _SCALAR_RATE
            if not access.is_async:
                waits = _LATENCY
        busy = max(products, reads, issue, loaded / _CACHE_RATE)
        if not self.has_units:
            # Threads read their operands from shared memory themselves; half of the reads are shared.
            threads = self.threads(config)
            words = 2 * math.sqrt(m * n / threads)
            busy = max(products, k * words * threads * 4 / (2 * _SHARED_RATE)) + issue
        busy += _BARRIERS
        return busy, max(busy + waits, _LATENCY / max(1, config.stages - 1))

    def _rate(self, config: Config) -> float:
        """Products a cycle and multiprocessor."""
        if not self.has_units:
            return 0.7 * _SCALAR_RATE
        rate = _RATES.get(self.target.arch, _RATE) * _SPEED[self.form.unit.bits]
        if self.target.has_wgmma and (config.rows < 64 or config.warps % 4):
            rate *= 0.6
        # Short tiles have too few warps to hide the latency of matrix instructions.
        return rate * min(1.0, config.warps / 4) * (1.0 if config.columns >= 32 else 0.5)

    def epilogue(self, config: Config) -> float:
        """The cycles of what follows the sums."""
        sums = config.rows * config.columns
        return sums * (_INSTRUCTIONS + 4 * self.loads + 20 * self.costly) / _SCALAR_RATE

    def together(self, config: Config) -> int:
        """The programs that a multiprocessor has at once."""
        threads = self.threads(config)
        registers = min(255.0, self.registers(config)) * threads
        least = min(
            self.target.shared_bytes // self.shared_bytes(config),
            int(self.target.registers / registers),
            _THREADS_OF_MULTIPROCESSOR // threads,
        )
        return max(1, least)


class Problem:
    """A contraction at known sizes."""

    def __init__(self, model: CostModel, numbers: Mapping[str, int]) -> None:
        form = model.form
        self.model = model
        self.batch, self.rows, self.columns, self.outer, self.depth = (
            max(1, evaluate(tiles.extent_of(axes), numbers))
            for axes in (form.batch, form.rows, form.columns, form.outer, form.inner)
        )
        self._memory = self._memory_cycles()

    def tiles(self, config: Config) -> int:
        """How many tiles there are."""
        return self.batch * math.ceil(self.rows / config.rows) * math.ceil(self.columns / config.columns)

    def cycles(self, config: Config) -> float:
        """The cycles from the start of the launch to its end, and those of a second one."""
        model, machine = self.model, self.model.target.multiprocessors
        count = self.tiles(config) * config.chunks
        steps = math.ceil(self.outer * math.ceil(self.depth / config.depth) / config.chunks)
        busy, waits = model.step(config)
        end = _START + model.epilogue(config)
        # Tiles of one multiprocessor share it; each waits for memory by itself.
        shared = math.ceil(count / machine) * (steps * busy + end)
        rounds = math.ceil(count / (machine * model.together(config)))
        alone = rounds * (steps * max(busy, waits) + _LATENCY + end)
        total = _LAUNCH + max(shared, alone, self._memory)
        if config.chunks == 1:
            return total
        # The sums of chunks go through the cache, there and back.
        sums = config.chunks * self.batch * self.rows * self.columns
        moved = 2 * sums * model.form.contract.out.dtype.itemsize
        return total + _LAUNCH + _LATENCY + moved / (_CACHE_RATE * machine)

    def _memory_cycles(self) -> float:
        """The cycles for which memory is busy with operands and results, each once."""
        form = self.model.form
        reduce = self.outer * self.depth
        taps = self.outer if form.contract.spec.windows else 1
        left = self.rows * reduce * form.left_access.bits / 8 / taps
        right = self.columns * reduce * form.right_access.bits / 8
        stored = self.rows * self.columns * sum(store.value.dtype.itemsize for store in form.stores)
        return self.batch * (left + right + stored) * _CLOCK / self.model.target.bandwidth


def _epilogue_work(form: Form) -> tuple[int, int]:
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

"""The steps that run in Python: nodes without a kernel, and what is done to objects between them.

Objects are strings, sequences and optionals (docs/objects.md): they lie in a table, one for each context,
that generated code does not know. It asks for a step by its number, and passes the addresses of the step's
tensors of numbers and of the symbols.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from dlc.errors import Error, InternalError, ShapeError, printable
from dlc.ir.dims import Dim, evaluate
from dlc.ir.objects import detached, with_row
from dlc.ir.operator import Operator
from dlc.ir.types import TensorType, Type


@dataclass(frozen=True)
class Operand:
    """An operand or result of a step, of `type`: in an entry of the table or, without one, in memory."""

    type: Type
    slot: int | None = None


@dataclass(frozen=True)
class Evaluate:
    """Evaluate an operator; `node` names the ONNX nodes that it comes from, for messages."""

    op: Operator
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand, ...]
    node: str | None


@dataclass(frozen=True)
class Measure:
    """Set symbol number `symbol` to extent `axis` of the array in `slot`."""

    slot: int
    axis: int
    symbol: int


@dataclass(frozen=True)
class Refer:
    """Let entry `target` be what `source` is, or get that as the row whose number symbol `row` has."""

    source: int
    target: int
    row: int | None


HostStep: TypeAlias = Evaluate | Measure | Refer


@dataclass(frozen=True)
class HostPlan:
    """All that Python does in a run.

    `symbols` are the names of the symbols in the order of their numbers in memory; the table has `slots`
    entries, of which `constants` are there from the start. `inputs` and `outputs` give the entry of each
    input and output of the model, -1 for one that is a tensor of numbers.
    """

    symbols: tuple[str, ...]
    slots: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: Mapping[int, np.ndarray[Any, Any]]
    steps: Mapping[int, HostStep]


class HostRunner:
    """Takes the steps of one run at a time, called by native code."""

    def __init__(self, plan: HostPlan) -> None:
        self._inputs = [slot for slot in plan.inputs if slot >= 0]
        self._initial = [plan.constants.get(slot) for slot in range(plan.slots)]
        self._table: list[Any] = self._initial.copy()
        self._numbers = ctypes.c_int64 * max(1, len(plan.symbols))
        self._steps = {
            number: _Evaluation(step, plan.symbols) if isinstance(step, Evaluate) else step
            for number, step in plan.steps.items()
        }

    def begin(self, objects: Sequence[Any]) -> None:
        """Begin a run with these inputs, those of the model that are objects."""
        for slot, value in zip(self._inputs, objects, strict=True):
            self._table[slot] = value

    def end(self) -> None:
        """Forget the objects of a run."""
        self._table = self._initial.copy()

    def result(self, slot: int) -> Any:
        """What the run has left in an entry of the table, for the caller to keep."""
        return detached(self._table[slot])

    def __call__(self, step: int, buffers: int, symbols: int) -> None:
        """Take step number `step`; its tensors lie at the addresses that stand at `buffers`."""
        numbers = self._numbers.from_address(symbols)
        match self._steps[step]:
            case _Evaluation() as evaluation:
                evaluation(self._table, buffers, numbers)
            case Measure(slot, axis, symbol):
                numbers[symbol] = self._table[slot].shape[axis]
            case Refer(source, target, row):
                element = self._table[source]
                if row is not None:
                    element = with_row(self._table[target], numbers[row], element)
                self._table[target] = element


class _Evaluation:
    """An `Evaluate` that is ready to be repeated.

    It keeps the arrays over its tensors: they are those of the next time, too, where neither the addresses
    nor the numbers of the symbols differ.
    """

    def __init__(self, step: Evaluate, symbols: tuple[str, ...]) -> None:
        self._step = step
        self._symbols = symbols
        self._tensors = [o for o in (*step.inputs, *step.outputs) if o is not None and o.slot is None]
        self._addresses = ctypes.c_void_p * len(self._tensors)
        # What becomes part of an object must not change with the memory that it came from.
        self._copies = any(operand.slot is not None for operand in step.outputs)
        self._key: tuple[list[int | None], list[int]] | None = None
        self._views: list[np.ndarray[Any, Any]] = []

    def __call__(self, table: list[Any], buffers: int, numbers: Any) -> None:
        """Evaluate on objects of `table` and the tensors at the addresses that stand at `buffers`, where the
        symbols have these `numbers`."""
        step, values = self._step, numbers[:]
        views = iter(self._tensors_at(self._addresses.from_address(buffers)[:], values))
        inputs = [None if o is None else self._operand(o, table, views) for o in step.inputs]

        def dim(extent: Dim) -> int:
            return evaluate(extent, self._env(values))

        try:
            with np.errstate(all="ignore"):
                results = step.op.evaluate(inputs, dim)
            for operand, result in zip(step.outputs, results, strict=True):
                if operand.slot is not None:
                    table[operand.slot] = result
                else:
                    _store(next(views), result)
        except Error as error:
            error.node = error.node or step.node
            raise
        except MemoryError:
            raise
        except Exception as error:
            raise InternalError(
                f"a host step failed: {type(error).__name__}: {printable(str(error))}", node=step.node
            ) from error

    def _env(self, numbers: list[int]) -> dict[str, int]:
        return dict(zip(self._symbols, numbers, strict=False))

    def _tensors_at(self, addresses: list[int | None], numbers: list[int]) -> list[np.ndarray[Any, Any]]:
        key = (addresses, numbers)
        if key != self._key:
            env = self._env(numbers)
            self._views = [_view(o, pointer or 0, env) for o, pointer in zip(self._tensors, addresses)]
            self._key = key
        return self._views

    def _operand(self, operand: Operand, table: list[Any], views: Iterator[np.ndarray[Any, Any]]) -> Any:
        if operand.slot is not None:
            return table[operand.slot]
        view = next(views)
        return view.copy() if self._copies else view


def _view(operand: Operand, pointer: int, env: Mapping[str, int]) -> np.ndarray[Any, Any]:
    """The memory of a tensor as an array."""
    assert isinstance(operand.type, TensorType)
    shape = tuple(evaluate(extent, env) for extent in operand.type.shape)
    dtype = operand.type.dtype.numpy
    count = math.prod(shape)
    if not count:
        return np.empty(shape, dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(pointer)
    view: np.ndarray[Any, Any] = np.ndarray(shape, dtype, memory)  # type: ignore[arg-type]
    return view


def _store(target: np.ndarray[Any, Any], result: np.ndarray[Any, Any]) -> None:
    """Write a result to memory; ShapeError where it has another shape than the memory is for."""
    if target.shape != result.shape:
        raise ShapeError(f"a result has shape {list(result.shape)}, but {list(target.shape)} was expected")
    target[...] = result

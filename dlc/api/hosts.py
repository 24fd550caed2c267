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
        self._plan = plan
        self._inputs = [slot for slot in plan.inputs if slot >= 0]
        self._table: list[Any] = []
        self.end()

    def begin(self, objects: Sequence[Any]) -> None:
        """Begin a run with these inputs, those of the model that are objects."""
        for slot, value in zip(self._inputs, objects, strict=True):
            self._table[slot] = value

    def end(self) -> None:
        """Forget the objects of a run."""
        self._table = [self._plan.constants.get(slot) for slot in range(self._plan.slots)]

    def result(self, slot: int) -> Any:
        """What the run has left in an entry of the table, for the caller to keep."""
        return detached(self._table[slot])

    def __call__(self, step: int, buffers: int, symbols: int) -> None:
        """Take step number `step`; its tensors lie at the addresses that stand at `buffers`."""
        match self._plan.steps[step]:
            case Evaluate() as evaluation:
                self._evaluate(evaluation, buffers, symbols)
            case Measure(slot, axis, symbol):
                self._numbers(symbols)[symbol] = self._table[slot].shape[axis]
            case Refer(source, target, row):
                element = self._table[source]
                if row is not None:
                    element = with_row(self._table[target], self._numbers(symbols)[row], element)
                self._table[target] = element

    def _numbers(self, symbols: int) -> Any:
        """The numbers of the symbols, in memory."""
        return (ctypes.c_int64 * max(1, len(self._plan.symbols))).from_address(symbols)

    def _evaluate(self, step: Evaluate, buffers: int, symbols: int) -> None:
        env = dict(zip(self._plan.symbols, self._numbers(symbols), strict=False))
        tensors = [o for o in (*step.inputs, *step.outputs) if o is not None and o.slot is None]
        table = (ctypes.c_void_p * len(tensors)).from_address(buffers)
        views = iter([_view(o, pointer or 0, env) for o, pointer in zip(tensors, table, strict=True)])
        # What becomes part of an object must not change with the memory that it came from.
        copies = any(operand.slot is not None for operand in step.outputs)
        inputs = [None if o is None else self._operand(o, views, copies) for o in step.inputs]

        def dim(extent: Dim) -> int:
            return evaluate(extent, env)

        try:
            with np.errstate(all="ignore"):
                results = step.op.evaluate(inputs, dim)
            for operand, result in zip(step.outputs, results, strict=True):
                if operand.slot is not None:
                    self._table[operand.slot] = result
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

    def _operand(self, operand: Operand, views: Iterator[np.ndarray[Any, Any]], copies: bool) -> Any:
        if operand.slot is not None:
            return self._table[operand.slot]
        view = next(views)
        return view.copy() if copies else view


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

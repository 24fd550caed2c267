"""The meaning of a kernel: its stages in NumPy, each over all points of its axes before the next.

Schedules and layouts play no part: indices are logical, and a sum may be taken in any order. What
docs/kernel-ir.md says of masks, indices from data, duplicates, recurrences and routines holds literally.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dlc.ir.dtypes import DType
from dlc.ir.operator import Array
from dlc.lowering import expr as e
from dlc.lowering.grid import Grid, Scope
from dlc.lowering.kernel import (
    Contract,
    Duplicates,
    Kernel,
    LocalTensor,
    Map,
    Monoid,
    Recur,
    Reduce,
    Routine,
    Stage,
    Store,
    StoreMode,
)
from dlc.lowering.monoids import identity, reduce_arrays
from dlc.lowering.routines import ROUTINES
from dlc.lowering.tensors import Combine, Tensor

#: The most points of a reduction that are in memory at once; beyond, reduced axes are looped over.
MOST_POINTS = 1 << 23

_COMBINE: dict[StoreMode, Combine] = {
    StoreMode.ADD: np.add.at,
    StoreMode.MUL: np.multiply.at,
    StoreMode.MIN: np.minimum.at,
    StoreMode.MAX: np.maximum.at,
}


def evaluate_kernel(
    kernel: Kernel,
    arrays: Mapping[str, Array | Tensor],
    symbols: Mapping[str, int],
    *,
    wide: bool = False,
) -> None:
    """Run `kernel` on `arrays`, one a parameter, of its logical shape; it stores its results in them.

    `symbols` are the numbers of the kernel's symbols. With `wide`, what is computed in f32 is computed in f64
    and rounded where it is stored: the judge of a float kernel. Raises IndexFault for an index from data that
    is out of range, InternalError for a kernel that is not sound (see `dlc.lowering.verify`) or arrays that
    do not fit.
    """
    evaluator = _Evaluator(Scope(kernel, symbols, wide))
    evaluator.bind(arrays)
    with np.errstate(all="ignore"):
        for stage in kernel.body:
            evaluator.stage(stage, {})


class _Evaluator:
    """Runs the stages of one kernel."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def bind(self, arrays: Mapping[str, Array | Tensor]) -> None:
        """Let `arrays` be the parameters."""
        scope = self.scope
        scope.extents = {axis.name: scope.number(axis.extent) for axis in scope.kernel.axes}
        for param in scope.kernel.params:
            given = arrays[param.name]
            tensor = given if isinstance(given, Tensor) else Tensor(given, param.type)
            shape = tuple(map(scope.number, param.type.shape))
            if tensor.shape != shape:
                raise scope.error(f"{param.name} is of shape {tensor.shape}, not {shape}")
            scope.params[param.name] = tensor

    # --- stages

    def stage(self, stage: Stage, fixed: Mapping[str, int]) -> None:
        """Run one stage; `fixed` are the numbers of the axes of the recurrences around it."""
        match stage:
            case Map(out, value):
                grid = Grid(self.scope, out.axes, fixed)
                self.define(out, grid.full(value))
            case Store():
                self.store(stage, Grid(self.scope, stage.axes, fixed))
            case Reduce(outs, axes, monoid, values):
                for out, result in zip(outs, self.reduce(outs, axes, monoid, values, fixed), strict=True):
                    self.define(out, result)
            case Contract():
                self.define(stage.out, self.contract(stage, fixed))
            case Recur():
                self.recur(stage, fixed)
            case Routine():
                self.routine(stage)

    def define(self, local: LocalTensor, value: Array) -> None:
        if value.dtype != self.scope.dtype(local.dtype):
            raise self.scope.error(f"local {local.name} of {local.dtype.text} is given {value.dtype}")
        self.scope.locals[local.name] = value

    def store(self, store: Store, grid: Grid) -> None:
        tensor = self.scope.params[store.param]
        if not grid.points:
            return
        value = grid.full(store.value)
        if self.scope.wide and store.value.dtype is DType.F32:
            value = value.astype(np.float32)
        entries = [grid.entry(entry) for entry in store.index]
        mask = grid.mask(store.mask)
        grid.check(store.param, tensor, store.index, entries, mask)
        kept = np.broadcast_to(True if mask is None else mask, grid.shape).reshape(-1)
        index = [np.broadcast_to(at, grid.shape).reshape(-1)[kept] for at in entries]
        if store.mode is StoreMode.SET and store.duplicates is Duplicates.FORBIDDEN:
            self.refuse_duplicates(store.param, tensor, index, int(kept.sum()))
        tensor.store(index, value.reshape(-1)[kept], _COMBINE.get(store.mode))

    def refuse_duplicates(self, param: str, tensor: Tensor, index: Sequence[Array], points: int) -> None:
        """An error if two points store to one element."""
        reach = [tensor.reach(axis) for axis in range(len(index))]
        place = np.zeros(points, np.int64)
        for at, (low, high) in zip(index, reach, strict=True):
            place = place * (high - low) + (at - low)
        hit = np.zeros(math.prod(high - low for low, high in reach), np.bool_)
        hit[place] = True
        if int(hit.sum()) != points:
            raise self.scope.error(f"two points of a store to {param} hit one element")

    def reduce(
        self,
        outs: Sequence[LocalTensor],
        axes: Sequence[str],
        monoid: Monoid,
        values: Sequence[e.Expr],
        fixed: Mapping[str, int],
    ) -> list[Array]:
        """The reduced values over the axes of `outs`."""
        kept = outs[0].axes
        dtypes = [self.scope.dtype(value.dtype) for value in values]
        shape = tuple(self.scope.extents[axis] for axis in kept)
        results = [
            np.full(shape, number, dtype)
            for number, dtype in zip(identity(monoid, [value.dtype for value in values]), dtypes, strict=True)
        ]
        looped, rest = self.split((*kept, *axes), axes)
        for point in self.points(looped):
            grid = Grid(self.scope, (*kept, *rest), {**fixed, **point})
            parts = [grid.full(value) for value in values]
            parts = reduce_arrays(monoid, parts, tuple(range(len(kept), len(kept) + len(rest))))
            together = [np.stack(pair) for pair in zip(results, parts, strict=True)]
            results = reduce_arrays(monoid, together, (0,))
        return results

    def contract(self, stage: Contract, fixed: Mapping[str, int]) -> Array:
        """The sums of products, as matrix products over the roles of the axes."""
        spec, dtype = stage.spec, stage.out.dtype
        batch, rows, columns = (
            math.prod(self.scope.extents[axis] for axis in axes)
            for axes in (spec.batch, spec.rows, spec.columns)
        )
        carrier = self.scope.dtype(dtype) if dtype.is_float else np.dtype(np.int64)
        result = np.zeros((batch, rows, columns), carrier)
        looped, rest = self.split((*spec.batch, *spec.rows, *spec.columns, *spec.reduce), spec.reduce)
        terms = math.prod(self.scope.extents[axis] for axis in rest)
        for point in self.points(looped):
            inner = {**fixed, **point}
            left = Grid(self.scope, (*spec.batch, *spec.rows, *rest), inner).full(stage.left)
            right = Grid(self.scope, (*spec.batch, *spec.columns, *rest), inner).full(stage.right)
            a = left.astype(carrier).reshape(batch, rows, terms)
            b = right.astype(carrier).reshape(batch, columns, terms)
            result += _product(a, b.transpose(0, 2, 1))
        order = (*spec.batch, *spec.rows, *spec.columns)
        shaped = result.reshape([self.scope.extents[axis] for axis in order])
        if set(order) != set(stage.out.axes):
            raise self.scope.error(f"the roles {order} of a contraction are not the axes of {stage.out.name}")
        return shaped.transpose([order.index(axis) for axis in stage.out.axes]).astype(
            self.scope.dtype(dtype)
        )

    def split(self, axes: Sequence[str], reduced: Sequence[str]) -> tuple[list[str], list[str]]:
        """The reduced axes to loop over, shortest first, so that the rest fits in memory; and that rest."""
        points = math.prod(self.scope.extents[axis] for axis in axes)
        looped: list[str] = []
        for axis in sorted(reduced, key=lambda axis: self.scope.extents[axis]):
            if points <= MOST_POINTS:
                break
            looped.append(axis)
            points //= self.scope.extents[axis]
        return looped, [axis for axis in reduced if axis not in looped]

    def points(self, axes: Sequence[str]) -> Iterator[dict[str, int]]:
        """Every point of `axes`."""
        for point in itertools.product(*(range(self.scope.extents[axis]) for axis in axes)):
            yield dict(zip(axes, point))

    def recur(self, recur: Recur, fixed: Mapping[str, int]) -> None:
        for state in recur.states:
            self.define(state.local, Grid(self.scope, state.local.axes, fixed).full(state.start))
        steps = range(self.scope.extents[recur.axis])
        for step in reversed(steps) if recur.reverse else steps:
            inner = {**fixed, recur.axis: step}
            for stage in recur.body:
                self.stage(stage, inner)
            following = [Grid(self.scope, s.local.axes, inner).full(s.next) for s in recur.states]
            for state, value in zip(recur.states, following, strict=True):
                self.define(state.local, value)

    def routine(self, routine: Routine) -> None:
        meaning = ROUTINES.get(routine.name)
        if meaning is None:
            raise self.scope.error(f"there is no routine {routine.name}")
        options = {
            key: value if isinstance(value, str | bool | float) else self.scope.number(value)
            for key, value in routine.attributes
        }
        tensors = [self.scope.params[name] for name in routine.params]
        count = len(meaning.reads)
        results = meaning.evaluate([tensor.whole() for tensor in tensors[:count]], options)
        for tensor, result in zip(tensors[count:], results, strict=True):
            if tensor.shape != result.shape:
                raise self.scope.error(f"{routine.name} gives shape {result.shape}, not {tensor.shape}")
            tensor.assign(result)


def _product(left: Array, right: Array) -> Array:
    """Batched matrix product. 64-bit integers wrap; small ones go through float64, where BLAS is exact."""
    if left.dtype.kind == "f" or not left.size or not right.size:
        return np.asarray(np.matmul(left, right))
    bound = float(np.abs(left.astype(np.float64)).max()) * float(np.abs(right.astype(np.float64)).max())
    if bound * left.shape[-1] < 2.0**53:
        return np.asarray(np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(np.int64))
    return np.asarray(np.matmul(left, right))

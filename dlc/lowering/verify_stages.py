"""The rules of a kernel's stages: names in scope, types, indices within their tensors, roles of axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from dlc.ir.dims import Dim, Guard, free_symbols, linear
from dlc.ir.types import FillKind
from dlc.lowering import expr as e
from dlc.lowering.assumptions import assume
from dlc.lowering.exhaustive import exhaustively_within
from dlc.lowering.inspect import defined_locals, expr_dims, mask_dims, node_dims, roots
from dlc.lowering.kernel import (
    Access,
    Axis,
    AxisKind,
    Contract,
    Duplicates,
    Kernel,
    LocalTensor,
    Map,
    Param,
    Recur,
    Reduce,
    Routine,
    Stage,
    Store,
    StoreMode,
    Window,
)
from dlc.lowering.ranges import Space
from dlc.lowering.routines import ROUTINES
from dlc.lowering.text import stage_lines
from dlc.lowering.verify_types import expression_problems, stage_problems


def body_problems(kernel: Kernel, guards: Sequence[Guard]) -> Iterator[str]:
    """What is wrong with the stages of `kernel`, one after the other."""
    body = _Body(kernel, guards)
    scope = _Scope({}, ())
    for stage in kernel.body:
        yield from body.stage(stage, scope)


@dataclasses.dataclass
class _Scope:
    """The locals that can be read, and the axes of the recurrences around."""

    locals: dict[str, LocalTensor]
    steps: tuple[str, ...]


class _Body:
    """The check of the stages, one after the other."""

    def __init__(self, kernel: Kernel, guards: Sequence[Guard]) -> None:
        self.kernel = kernel
        self.assumptions = assume(guards)
        self.params = {param.name: param for param in kernel.params}
        self.axes: Mapping[str, Axis] = {axis.name: axis for axis in kernel.axes}

    def stage(self, stage: Stage, scope: _Scope) -> Iterator[str]:
        where = stage_lines(stage)[0]
        for problem in self._problems(stage, scope):
            yield f"{problem}, in: {where}"
        if isinstance(stage, Recur):
            inner = _Scope({**scope.locals, **{s.local.name: s.local for s in stage.states}}, scope.steps)
            inner.steps = (*inner.steps, stage.axis)
            for part in stage.body:
                yield from self.stage(part, inner)
            for state in stage.states:
                for problem in self._values((state.next,), state.local.axes, inner):
                    yield f"{problem}, in the next {state.local.name} of: {where}"
        scope.locals.update((local.name, local) for local in defined_locals(stage))

    def _problems(self, stage: Stage, scope: _Scope) -> Iterator[str]:
        unknown = [name for name in _named_axes(stage) if name not in self.axes]
        if unknown:
            yield f"there is no axis {', '.join(unknown)}"
            return
        yield from stage_problems(stage, self.params)
        for local in defined_locals(stage):
            yield from self._domain(local.axes, scope)
        match stage:
            case Map(out, value):
                yield from self._values((value,), out.axes, scope)
            case Store():
                yield from self._store(stage, scope)
            case Reduce(outs, axes, _, values):
                yield from self._domain((*outs[0].axes, *axes), scope, reduced=axes)
                yield from self._values(values, (*outs[0].axes, *axes), scope)
            case Contract():
                yield from self._contract(stage, scope)
            case Recur():
                yield from self._recur(stage, scope)
            case Routine():
                yield from self._routine(stage)

    def _domain(self, axes: Sequence[str], scope: _Scope, reduced: Sequence[str] = ()) -> Iterator[str]:
        for axis in dict.fromkeys(axes):
            if list(axes).count(axis) > 1 or axis in scope.steps:
                yield f"axis {axis} is walked twice"
            if axis not in reduced and self.axes[axis].kind is AxisKind.REDUCE:
                yield f"axis {axis} is only for reducing"

    def _space(self, axes: Sequence[str], scope: _Scope) -> Space:
        names = (*axes, *scope.steps)
        return Space({name: self.axes[name].extent for name in names}, self.assumptions)

    def _values(self, values: Sequence[e.Expr], axes: Sequence[str], scope: _Scope) -> Iterator[str]:
        """Expressions over `axes`: their types, the names in them, and their indices."""
        points = self._space(axes, scope)
        for node in e.walk(*values):
            yield from expression_problems(node, self.params, scope.locals)
            for dim in node_dims(node):
                yield from self._dim(dim, points)
            match node:
                case e.Load(_, name, index, mask):
                    param = self.params.get(name)
                    if param is not None:
                        yield from self._index(name, index, _reach(param), points.given(mask))
                case e.Read(_, name, read_index, mask):
                    local = scope.locals.get(name)
                    if local is None:
                        yield f"local {name} is read before it is defined"
                        continue
                    reach: list[tuple[Dim, Dim]] = [(0, self.axes[axis].extent) for axis in local.axes]
                    yield from self._index(name, read_index, reach, points.given(mask))

    def _dim(self, dim: Dim, points: Space) -> Iterator[str]:
        for symbol in free_symbols(dim):
            if symbol.name in self.axes and symbol.name not in points.extents:
                yield f"axis {symbol.name} is used where it is not walked"

    def _index(
        self, name: str, index: Sequence[e.Index], reach: Sequence[tuple[Dim, Dim]], points: Space
    ) -> Iterator[str]:
        if len(index) != len(reach):
            yield f"{name} of {len(reach)} axes is indexed with {len(index)}"
            return
        for axis, (entry, (low, high)) in enumerate(zip(index, reach)):
            if isinstance(entry, e.Expr) or points.within(entry, low, high):
                continue
            if not exhaustively_within(entry, low, high, points):
                yield f"index {entry!r} of axis {axis} of {name} is not proved to be in [{low}, {high})"

    def _store(self, store: Store, scope: _Scope) -> Iterator[str]:
        yield from self._domain(store.axes, scope)
        yield from self._values(roots(store), store.axes, scope)
        points = self._space(store.axes, scope)
        dims = [entry for entry in store.index if not isinstance(entry, e.Expr)]
        for dim in (*dims, *mask_dims(store.mask)):
            yield from self._dim(dim, points)
        param = self.params.get(store.param)
        if param is not None:
            yield from self._index(store.param, store.index, _reach(param), points.given(store.mask))
        if store.mode is not StoreMode.SET and store.duplicates is Duplicates.LAST_WINS:
            yield "a combining store counts every point, the last does not win"

    def _contract(self, stage: Contract, scope: _Scope) -> Iterator[str]:
        spec = stage.spec
        roles = (*spec.batch, *spec.rows, *spec.columns, *spec.reduce)
        yield from self._domain(roles, scope, reduced=spec.reduce)
        if set(stage.out.axes) != {*spec.batch, *spec.rows, *spec.columns}:
            yield f"the axes of {stage.out.name} are not those of the roles"
        left, right = (*spec.batch, *spec.rows, *spec.reduce), (*spec.batch, *spec.columns, *spec.reduce)
        yield from self._values((stage.left,), left, scope)
        yield from self._values((stage.right,), right, scope)
        for axis in (*spec.reduce, *spec.rows):
            if self._matters(axis) and axis not in _axes_of(stage.left):
                yield f"axis {axis} does not index the left operand"
        for axis in (*spec.reduce, *spec.columns):
            if self._matters(axis) and axis not in _axes_of(stage.right):
                yield f"axis {axis} does not index the right operand"
        for window in spec.windows:
            if window.out not in spec.rows or window.tap not in spec.reduce:
                yield f"a window slides along {window.out} with taps {window.tap}, against their roles"
            else:
                yield from self._window(stage, window)

    def _window(self, stage: Contract, window: Window) -> Iterator[str]:
        """Whether the left operand depends on the axes of a window only by the position that it says.

        A step of one tap is made good by a step of the output: the operand stays the same expression.
        """
        out, tap = self.axes[window.out].symbol, self.axes[window.tap].symbol
        wanted = out * window.stride + tap * window.dilation - window.pad
        step = {out.name: out - window.dilation, tap.name: tap + window.stride}
        moved = e.substitute(stage.left, step)
        if moved is not stage.left and self._matters(window.out) and self._matters(window.tap):
            yield f"the left operand depends on {window.out} and {window.tap} otherwise than by {wanted!r}"
        for node in e.walk(stage.left):
            for entry in node.index if isinstance(node, e.Load | e.Read) else ():
                if isinstance(entry, e.Expr) or not {out, tap} <= free_symbols(entry):
                    continue
                if linear(entry, out) and linear(entry, tap) and entry != wanted:
                    yield f"the left operand is read at {entry!r}, but its window is at {wanted!r}"

    def _matters(self, axis: str) -> bool:
        return self.axes[axis].extent != 1

    def _recur(self, recur: Recur, scope: _Scope) -> Iterator[str]:
        if self.axes[recur.axis].kind is not AxisKind.SEQUENTIAL:
            yield f"axis {recur.axis} of a recurrence is not sequential"
        if recur.axis in scope.steps:
            yield f"axis {recur.axis} is walked twice"
        for state in recur.states:
            if recur.axis in state.local.axes:
                yield f"the state {state.local.name} has the axis of its recurrence"
            yield from self._values((state.start,), state.local.axes, scope)

    def _routine(self, routine: Routine) -> Iterator[str]:
        meaning = ROUTINES.get(routine.name)
        if meaning is None:
            yield f"there is no routine {routine.name}"
            return
        if len(routine.params) != len(meaning.reads) + len(meaning.writes):
            yield f"{routine.name} takes {', '.join((*meaning.reads, *meaning.writes))}"
        if {key for key, _ in routine.attributes} != meaning.options:
            yield f"{routine.name} takes the options {', '.join(sorted(meaning.options))}"
        for role, name in enumerate(routine.params):
            param = self.params.get(name)
            if param is not None and (param.access is Access.READ) is not (role < len(meaning.reads)):
                yield f"{name} is {param.access.value}, against its role in {routine.name}"


def _named_axes(stage: Stage) -> Iterator[str]:
    for local in defined_locals(stage):
        yield from local.axes
    match stage:
        case Store():
            yield from stage.axes
        case Reduce(_, axes, _, _):
            yield from axes
        case Contract():
            spec = stage.spec
            yield from (*spec.batch, *spec.rows, *spec.columns, *spec.reduce)
            yield from (axis for window in spec.windows for axis in (window.out, window.tap))
        case Recur():
            yield stage.axis


def _axes_of(expr: e.Expr) -> set[str]:
    return {symbol.name for dim in expr_dims(expr) for symbol in free_symbols(dim)}


def _reach(param: Param) -> list[tuple[Dim, Dim]]:
    """For each axis the least index, and the one behind the greatest; halos count if they hold something."""
    layout = param.type.layout
    reach: list[tuple[Dim, Dim]] = [(0, extent) for extent in param.type.shape]
    for halo in layout.halos if layout else ():
        if halo.fill.kind is not FillKind.UNDEFINED:
            reach[halo.axis] = (-halo.before, param.type.shape[halo.axis] + halo.after)
    return reach

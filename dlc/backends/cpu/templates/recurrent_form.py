"""Recurrent layers as a kernel says them: states, products of a state with weights, formulas by unit.

`recurrent_form` recognizes a recurrence whose body is made of phases: each begins with a product of a state
(or of what an earlier phase computed) with constant weights, followed by stages that look at one unit.
"""
from __future__ import annotations

import dataclasses

from dlc.backends.cpu import access
from dlc.backends.cpu.templates.template import Declined
from dlc.ir.dims import linear
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import roots
from dlc.lowering.kernel import Axis, Contract, Kernel, Map, Param, Recur, Stage, Store, StoreMode


@dataclasses.dataclass(frozen=True)
class Weights:
    """Where the weight of (direction, gate, unit, depth) lies: `base` plus each number times its stride."""

    param: Param
    base: int
    direction: int
    gate: int
    unit: int
    depth: int


@dataclasses.dataclass(frozen=True)
class Phase:
    """`gates` products of `source`, a state or a local of an earlier phase, named `product`; then the stages.

    The stages read the product at (direction, batch, number of the gate, unit).
    """

    product: str
    gates: int
    source: str
    weights: Weights
    stages: tuple[Map | Store, ...]


@dataclasses.dataclass(frozen=True)
class RecurrentForm:
    """A recurrence over points (direction, batch, unit); `direction` is None where there is only one.

    `kept` names the locals that a later phase reads. `finals` store the states after the last step.
    """

    kernel: Kernel
    recur: Recur
    step: Axis
    direction: Axis | None
    batch: Axis
    unit: Axis
    phases: tuple[Phase, ...]
    finals: tuple[Store, ...]
    kept: frozenset[str]

    @property
    def units(self) -> int:
        """Hidden units."""
        assert isinstance(self.unit.extent, int)
        return self.unit.extent

    @property
    def directions(self) -> int:
        """1 or 2."""
        return 1 if self.direction is None else 2


def recurrent_form(kernel: Kernel) -> RecurrentForm | Declined:
    """`kernel` as a recurrent layer, or why it is none that the template takes."""
    match kernel.body:
        case (Recur() as recur, *rest):
            pass
        case _:
            return Declined("the kernel does not start with a recurrence")
    points = recur.states[0].local.axes
    if len(points) not in (2, 3) or any(s.local.axes != points for s in recur.states):
        return Declined("the states are not over batch and units")
    if any(s.local.dtype is not DType.F32 for s in recur.states):
        return Declined("the states are not f32")
    if any(param.type.layout is not None for param in kernel.params):
        return Declined("a blocked layout")
    batch, unit = kernel.axis(points[-2]), kernel.axis(points[-1])
    direction = kernel.axis(points[0]) if len(points) == 3 else None
    if not isinstance(unit.extent, int) or (direction is not None and direction.extent != 2):
        return Declined("the number of units is not known")
    finals = tuple(stage for stage in rest if isinstance(stage, Store) and _is_plain(stage, points))
    if len(finals) != len(rest):
        return Declined("more than stores of the last states follows")
    phases = _phases(kernel, recur, points)
    if isinstance(phases, Declined):
        return phases
    reason = _check_reads(kernel, recur, phases, finals, points)
    if reason is not None:
        return Declined(reason)
    step, kept = kernel.axis(recur.axis), _kept(recur, phases)
    return RecurrentForm(kernel, recur, step, direction, batch, unit, phases, finals, kept)


def _is_plain(store: Store, points: tuple[str, ...]) -> bool:
    return store.axes == points and store.mode is StoreMode.SET


def _phases(kernel: Kernel, recur: Recur, points: tuple[str, ...]) -> tuple[Phase, ...] | Declined:
    """The body cut at its contractions."""
    phases: list[Phase] = []
    for stage in recur.body:
        match stage:
            case Contract():
                phase = _phase(kernel, stage, points)
                if isinstance(phase, Declined):
                    return phase
                phases.append(phase)
            case Map() | Store() if phases:
                plain = _is_plain(stage, points) if isinstance(stage, Store) else stage.out.axes == points
                if not plain or (isinstance(stage, Map) and stage.out.dtype is not DType.F32):
                    return Declined("a stage of the step is not one of f32 over the axes of the states")
                last = phases[-1]
                phases[-1] = dataclasses.replace(last, stages=(*last.stages, stage))
            case _:
                return Declined("a step that is no product followed by formulas")
    return tuple(phases) if phases else Declined("a step without a product")


def _phase(kernel: Kernel, contract: Contract, points: tuple[str, ...]) -> Phase | Declined:
    """A product of a local over (direction, batch, depth) with constant weights."""
    left, right = contract.left, contract.right
    if isinstance(right, e.Cast) and right.dtype is DType.F32:
        right = right.operand
    if not isinstance(left, e.Read) or left.mask or not isinstance(right, e.Load) or right.mask:
        return Declined("the product is not one of a state and weights")
    axes, reduce = contract.out.axes, contract.spec.reduce
    if len(axes) != len(points) + 1 or (*axes[:-2], axes[-1]) != points or len(reduce) != 1:
        return Declined("the product is over other axes than gates and units")
    outer = tuple(kernel.axis(axis).symbol for axis in points[:-1])
    depth, gate = kernel.axis(reduce[0]), kernel.axis(axes[-2])
    if left.index != (*outer, depth.symbol) or depth.extent != kernel.extent(points[-1]):
        return Declined("the product does not take all units of a state")
    weights = _weights(kernel, right, (*points[:-2], gate.name, points[-1], depth.name))
    if weights is None or contract.out.dtype is not DType.F32 or not isinstance(gate.extent, int):
        return Declined("the weights are not constant")
    return Phase(contract.out.name, gate.extent, left.local, weights, ())


def _weights(kernel: Kernel, load: e.Load, axes: tuple[str, ...]) -> Weights | None:
    """The strides of constant weights along (direction,) gate, unit and depth."""
    param = kernel.param(load.param)
    dims = [entry for entry in load.index if not isinstance(entry, e.Expr)]
    if not param.constant or param.strides is not None or len(dims) != len(load.index):
        return None
    rest = access.offset(param, dims)
    strides: list[int] = []
    for axis in axes:
        affine = linear(rest, kernel.axis(axis).symbol)
        if affine is None or not isinstance(affine[0], int):
            return None
        strides.append(affine[0])
        rest = affine[1]
    if not isinstance(rest, int):
        return None
    return Weights(param, rest, strides[0] if len(axes) == 4 else 0, *strides[-3:])


def _check_reads(kernel: Kernel, recur: Recur, phases: tuple[Phase, ...], finals: tuple[Store, ...],
                 points: tuple[str, ...]) -> str | None:
    """Why an expression does not look at its own unit only; None when all do."""
    here = tuple(kernel.axis(axis).symbol for axis in points)
    products = {phase.product for phase in phases}
    checked: list[Stage] = [stage for phase in phases for stage in phase.stages]
    expressions = [root for stage in (*checked, *finals) for root in roots(stage)]
    expressions += [value for state in recur.states for value in (state.start, state.next)]
    for node in e.walk(*expressions):
        if isinstance(node, e.Read):
            index = (*node.index[:-2], node.index[-1]) if node.local in products else node.index
            if index != here or node.mask:
                return "a formula looks at other units"
            if node.local in products and not isinstance(node.index[-2], int):
                return "a formula looks at other gates"
    return None


def _kept(recur: Recur, phases: tuple[Phase, ...]) -> frozenset[str]:
    """The locals that are read in a later phase than the one that computes them."""
    born: dict[str, int] = {}
    kept: set[str] = set()
    for number, phase in enumerate(phases):
        if phase.source in born:
            kept.add(phase.source)
        for stage in phase.stages:
            kept.update(name for name in _reads(*roots(stage)) if born.get(name, number) < number)
            if isinstance(stage, Map):
                born[stage.out.name] = number
    last = len(phases) - 1
    following = _reads(*(state.next for state in recur.states))
    return frozenset(kept | {name for name in following if born.get(name, last) < last})


def _reads(*expressions: e.Expr) -> set[str]:
    return {node.local for node in e.walk(*expressions) if isinstance(node, e.Read)}

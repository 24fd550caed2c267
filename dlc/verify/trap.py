"""Which node makes the first NaN or infinity? `dlc run --trap`.

The native program runs one launch at a time; the first whose result holds such a number although no operand
did is the culprit. Where a launch works for several nodes, these are evaluated one by one on its operands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dlc.errors import printable
from dlc.ir.graph import Node
from dlc.lowering.program import Buffer, Host, Launch
from dlc.options import Options
from dlc.verify.bisection.image import Image
from dlc.verify.bisection.native import NativeCode, compile_native, cpu_target
from dlc.verify.bisection.steps import Following, reads, writes
from dlc.verify.bisection.subject import Prepared, Subject, prepare
from dlc.verify.compare import Array
from dlc.verify.tolerances import is_float

#: What can be trapped, and how an array is searched for it.
KINDS: Mapping[str, Callable[[Array], Array]] = {"nan": np.isnan, "inf": np.isinf}


@dataclass(frozen=True)
class Operand:
    """An operand of the culprit, with its extreme finite elements (None if it has none)."""

    name: str
    type: str
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Trapped:
    """The first NaN or infinity: in `value`, made by the ONNX `nodes`, in the kernel of `step`.

    `index` is the first such element, `count` how many of `elements` there are.
    """

    nodes: tuple[str, ...]
    value: str
    step: int
    kernel: str
    index: tuple[int, ...]
    count: int
    elements: int
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class TrapReport:
    """What was trapped, if anything. True in a condition when nothing was.

    `inputs` names the model's inputs that held such numbers from the start.
    """

    kind: str
    found: Trapped | None
    inputs: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.found is None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-compatible data."""
        return asdict(self)

    def __str__(self) -> str:
        notes = [f"input {printable(name)} holds {self.kind} itself" for name in self.inputs]
        found = self.found
        if found is None:
            return "\n".join([*notes, f"no node makes {self.kind}"])
        lines = [
            *notes,
            f"the first {self.kind} is made by {printable(', '.join(found.nodes), 500) or 'an unnamed node'}",
            f"  {found.count} of {found.elements} elements of {printable(found.value)}, the first at "
            f"{list(found.index)}",
            f"  step {found.step}, kernel {found.kernel}",
        ]
        for operand in found.operands:
            extremes = "nothing finite" if operand.low is None else f"{operand.low:.6g} .. {operand.high:.6g}"
            lines.append(f"  operand {printable(operand.name)}: {operand.type}, {extremes}")
        return "\n".join(lines)


def trap(source: Any, inputs: Mapping[str, Any], kind: str, options: Options | None = None) -> TrapReport:
    """Run an ONNX model on `inputs`, by ONNX name, until a launch makes a number of `kind` (see KINDS).

    Raises what `dlc.compile` and a call raise.
    """
    from dlc.api.compile import refuse_unavailable

    options = options or Options()
    refuse_unavailable(options)
    target = cpu_target(options)
    prepared = prepare(Subject(source, options, inputs))
    native = compile_native(prepared, target)
    specs = zip(prepared.model.inputs, prepared.model.graph.inputs, strict=True)
    held = tuple(spec.name for spec, value in specs if _holds(kind, prepared.feeds[value.name]))
    return TrapReport(kind, _Walk(prepared, native, kind).run(), held)


class _Walk:
    """The run, step by step."""

    def __init__(self, prepared: Prepared, native: NativeCode, kind: str) -> None:
        self.prepared, self.native, self.kind = prepared, native, kind
        self.program = prepared.program
        self.image = Image(prepared)

    def run(self) -> Trapped | None:
        """Take all steps, or those up to the culprit."""
        return Following(self.image, self._visit).all()

    def _visit(self, index: int, step: Launch | Host) -> Trapped | None:
        operands = {b.name: np.array(self._array(b)) for b in reads(self.program, step)}
        if isinstance(step, Launch):
            self.native.launch(self.image, index)
        else:
            self.image.run_host(step)
        if any(_holds(self.kind, array) for array in operands.values()):
            return None
        for buffer in writes(self.program, step):
            array = self._array(buffer)
            found = self._culprit(index, step, buffer, array, operands) if _holds(self.kind, array) else None
            if found is not None:
                return found
        return None

    def _array(self, buffer: Buffer) -> Array:
        return self.image.memory(buffer).whole()

    def _culprit(
        self, index: int, step: Launch | Host, buffer: Buffer, array: Array, operands: dict[str, Array]
    ) -> Trapped | None:
        """The single node of `step` that makes the number; None where a constant had it already."""
        origins = step.origins if isinstance(step, Launch) else step.node.origin
        known = self.native.function(index)
        kernel = "the host" if known is None else f"{known[0]} ({known[1]})"
        for node in self._nodes(origins, operands):
            given = {value.name: operands[value.name] for value in node.operands}
            with np.errstate(all="ignore"):
                results = node.op.evaluate(
                    [None if value is None else given[value.name] for value in node.inputs], self.image.number
                )
            operands.update({v.name: r for v, r in zip(node.outputs, results, strict=True)})
            bad = [v.name for v in node.outputs if _holds(self.kind, operands[v.name])]
            if bad and any(_holds(self.kind, operand) for operand in given.values()):
                return None
            if bad:
                return self._trapped(node.origin, bad[0], index, kernel, operands[bad[0]], given)
        return self._trapped(origins, buffer.name, index, kernel, array, operands)

    def _nodes(self, origins: tuple[str, ...], operands: dict[str, Array]) -> list[Node]:
        """The graph's nodes behind a step in order, as far as its operands and constants allow."""
        available = set(operands)
        nodes = []
        for node in self.prepared.model.graph.nodes:
            if not node.origin or not set(node.origin) <= set(origins):
                continue
            for value in node.operands:
                if value.data is not None:
                    operands[value.name] = value.data
                    available.add(value.name)
            if {value.name for value in node.operands} <= available:
                nodes.append(node)
                available |= {value.name for value in node.outputs}
        return nodes

    def _trapped(
        self,
        nodes: tuple[str, ...],
        value: str,
        step: int,
        kernel: str,
        array: Array,
        operands: Mapping[str, Array],
    ) -> Trapped:
        bad = KINDS[self.kind](array.astype(np.float64))
        first = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
        described = tuple(_operand(name, operand) for name, operand in operands.items())
        return Trapped(nodes, value, step, kernel, first, int(bad.sum()), bad.size, described)


def _holds(kind: str, array: Array) -> bool:
    """Whether an array of floats has an element of `kind`."""
    return (
        is_float(array.dtype)
        and array.dtype.kind != "c"
        and bool(KINDS[kind](array.astype(np.float64)).any())
    )


def _operand(name: str, array: Array) -> Operand:
    finite = np.zeros(0)
    if array.dtype.kind in "biuf" or is_float(array.dtype):
        values = array.astype(np.float64)
        finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    return Operand(name, f"{array.dtype}{list(array.shape)}", low, high)

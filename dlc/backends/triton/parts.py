"""Cutting a kernel into parts that one launch each can compute.

A GPU has no barrier between the programs of a launch, so what needs another part's results reads them from
memory: locals that cross a cut become workspaces, parameters of both parts. A part is a kernel of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.ir.dtypes import DType
from dlc.ir.types import TensorType
from dlc.lowering import expr as e
from dlc.lowering.inspect import defined_locals, map_stage, roots, stages, used_axes, used_params
from dlc.lowering.kernel import Access, Axis, Kernel, LocalTensor, Map, Param, Recur, Stage, Store


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Memory that holds a local between parts: the name of the parameter, and its type."""

    name: str
    type: TensorType


class Cutter:
    """Gives the parts of one kernel, and collects the workspaces that they need."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.locals = {
            local.name: local for stage in stages(kernel.body) for local in defined_locals(stage)
        }
        #: Maps of parameters alone, which are computed again in each part that reads them.
        self.maps = {
            stage.out.name: stage
            for stage in kernel.body
            if isinstance(stage, Map) and not any(isinstance(n, e.Read) for n in e.walk(stage.value))
        }
        self.workspaces: dict[str, Workspace] = {}

    def part(self, body: Sequence[Stage], later: Sequence[Stage]) -> Kernel:
        """The kernel of `body`: what it defines for `later` is stored, what others have stored is loaded."""
        defined = {local.name for stage in stages(tuple(body)) for local in defined_locals(stage)}
        missing = _read(body) - defined
        again = [self.maps[name] for name in sorted(missing & set(self.maps))]
        crossing = sorted((_read(later) & defined) - set(self.maps))
        inside = [self._loading(stage, missing - set(self.maps)) for stage in (*again, *body)]
        inside += [self.store(name, self.locals[name]) for name in crossing]
        read = _read(inside)
        return self._kernel(tuple(s for s in inside if not (isinstance(s, Map) and s.out.name not in read)))

    def store(self, name: str, local: LocalTensor, value: e.Expr | None = None) -> Store:
        """The stage that writes a local, or another value of its shape, to the workspace of `name`."""
        axes = [self.kernel.axis(axis) for axis in local.axes]
        index = tuple(axis.symbol for axis in axes)
        space = self._space(name, local.dtype, axes)
        return Store(space.name, local.axes, index, value or e.Read(local.dtype, local.name, index))

    def _space(self, name: str, dtype: DType, axes: Sequence[Axis]) -> Workspace:
        shape = tuple(axis.extent for axis in axes)
        space = Workspace(workspace_name(name), TensorType(dtype, shape))
        return self.workspaces.setdefault(space.name, space)

    def _loading(self, stage: Stage, names: set[str]) -> Stage:
        """The stage with locals of other parts read from memory."""
        for name in names:
            local = self.locals[name]
            self._space(name, local.dtype, [self.kernel.axis(axis) for axis in local.axes])

        def leaf(node: e.Expr) -> e.Expr | None:
            if isinstance(node, e.Read) and node.local in names:
                return e.Load(node.dtype, workspace_name(node.local), node.index, node.mask, node.other)
            return None

        return map_stage(stage, lambda value: e.rewrite(value, leaf), lambda dim: dim)

    def _kernel(self, body: tuple[Stage, ...]) -> Kernel:
        """The kernel of these stages, with the parameters and axes that they use."""
        used = used_params(body)
        written = {stage.param for stage in stages(body) if isinstance(stage, Store)}
        params = [param for param in self.kernel.params if param.name in used]
        for space in self.workspaces.values():
            if space.name in used:
                access = Access.WRITE if space.name in written else Access.READ
                params.append(Param(space.name, space.type, access))
        names = used_axes(body)
        axes = tuple(axis for axis in self.kernel.axes if axis.name in names)
        return dataclasses.replace(self.kernel, params=tuple(params), axes=axes, body=body)

    # --- recurrences

    def begin(self, recur: Recur) -> tuple[Store, ...]:
        """The stages that write the states as they are at first."""
        return tuple(self.store(s.local.name, s.local, s.start) for s in recur.states)

    def step(self, recur: Recur) -> tuple[Stage, ...]:
        """The stages of one step, which end in writing the states as they are next."""
        following = (self.store(f"{s.local.name}_next", s.local, s.next) for s in recur.states)
        return (*recur.body, *following)


def workspace_name(local: str) -> str:
    """The parameter that holds a local."""
    return f"w_{local}"


def _read(body: Sequence[Stage]) -> set[str]:
    """The locals that stages read."""
    return {
        node.local
        for stage in stages(tuple(body))
        for node in e.walk(*roots(stage))
        if isinstance(node, e.Read)
    }

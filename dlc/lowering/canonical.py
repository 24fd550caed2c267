"""Canonical names: kernels that compute the same get the same text, and so share their code."""
from __future__ import annotations

import dataclasses

from dlc.ir.dims import Dim, substitute as substitute_dim
from dlc.lowering import expr as e
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.inspect import map_stage
from dlc.lowering.kernel import Axis, Contract, Kernel, LocalTensor, Map, Recur, Reduce, Routine, Stage, State, Store

_LETTERS = "ijklmnop"


def canonicalize(lowered: LoweredKernel) -> tuple[Kernel, list[str]]:
    """The kernel with parameters p0.., axes a0.., locals l0.., no origins; and its old parameter names in order."""
    kernel = lowered.kernel
    params = {param.name: f"p{i}" for i, param in enumerate(kernel.params)}
    axes = {axis.name: Axis(f"a{i}", axis.extent, axis.kind) for i, axis in enumerate(kernel.axes)}
    renaming = {name: axis.symbol for name, axis in axes.items()}
    locals_: dict[str, str] = {}

    def dim(d: Dim) -> Dim:
        return substitute_dim(d, renaming)

    def local(name: str) -> str:
        return locals_.setdefault(name, f"l{len(locals_)}")

    def leaf(node: e.Expr) -> e.Expr | None:
        match node:
            case e.Load():
                return e.Load(node.dtype, params[node.param], node.index, node.mask, node.other)
            case e.Read():
                return e.Read(node.dtype, local(node.local), node.index)
        return None

    def value(expr: e.Expr) -> e.Expr:
        return e.rewrite(expr, leaf, dim)

    def tensor(t: LocalTensor) -> LocalTensor:
        return dataclasses.replace(t, name=local(t.name))

    def rename(stage: Stage) -> Stage:
        stage = map_stage(stage, value, dim, lambda names: tuple(axes[n].name for n in names))
        match stage:
            case Map(out, x):
                return Map(tensor(out), x)
            case Store():
                return dataclasses.replace(stage, param=params[stage.param])
            case Reduce(outs, reduced, monoid, values):
                return Reduce(tuple(map(tensor, outs)), reduced, monoid, values)
            case Contract():
                return dataclasses.replace(stage, out=tensor(stage.out))
            case Recur():
                states = tuple(State(tensor(s.local), s.start, s.next) for s in stage.states)
                inner = tuple(_renamed_inside(s, params, tensor) for s in stage.body)
                return Recur(stage.axis, states, inner, stage.reverse)
            case Routine():
                return dataclasses.replace(stage, params=tuple(params[p] for p in stage.params))
        raise TypeError(f"unknown stage {stage!r}")

    body = tuple(rename(stage) for stage in kernel.body)
    new_params = tuple(dataclasses.replace(param, name=params[param.name]) for param in kernel.params)
    return Kernel(kernel.name, new_params, tuple(axes.values()), body), [p.name for p in kernel.params]


def _renamed_inside(stage: Stage, params: dict[str, str], tensor) -> Stage:  # type: ignore[no-untyped-def]
    """Names of parameters and locals in the stages of a recurrence (expressions are renamed already)."""
    match stage:
        case Map(out, x):
            return Map(tensor(out), x)
        case Store():
            return dataclasses.replace(stage, param=params[stage.param])
        case Reduce(outs, reduced, monoid, values):
            return Reduce(tuple(map(tensor, outs)), reduced, monoid, values)
        case Contract():
            return dataclasses.replace(stage, out=tensor(stage.out))
    return stage

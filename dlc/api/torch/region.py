"""Regions of torch.compile: a graph that runs compiled where it can, and eagerly where it cannot.

What a region was compiled for may change from call to call: it then keeps several *variants*. A variant has
the weights built in that it was compiled with, and fits calls with just these tensors, unchanged.
"""

from __future__ import annotations

import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlc.api.arrays import to_torch
from dlc.api.compile import compile_hooked
from dlc.api.model import CompiledModel
from dlc.errors import Error, LimitError, ModelError, ShapeError, UnsupportedError, printable
from dlc.frontend.torch.export import export
from dlc.frontend.torch.graphs import Argument, Closed, Constant, Graph, Result, refuse
from dlc.options import Options

#: Most variants of a region that have their weights built in; further ones take them as inputs.
_VARIANTS = 32

#: How often weights are built in anew because their content changed.
_CHANGES = 2


class Fallbacks:
    """What runs eagerly, for the one warning that a compilation gives."""

    def __init__(self) -> None:
        self._new: dict[str, str] = {}
        self._said: set[str] = set()

    def add(self, reasons: Mapping[str, str]) -> None:
        """Note operators, with the reasons."""
        self._new |= {name: reason for name, reason in reasons.items() if name not in self._said}

    def warn(self) -> None:
        """One warning for what is new."""
        if not self._new:
            return
        listed = "; ".join(f"{printable(name)}: {printable(why, 300)}" for name, why in self._new.items())
        self._said |= set(self._new)
        self._new = {}
        message = f"dlc leaves a part of the graph to PyTorch, which runs it eagerly ({listed})"
        warnings.warn(message, UserWarning, stacklevel=2)


@dataclass(frozen=True)
class _Weight:
    """A tensor whose content a variant has built in."""

    index: int
    reference: weakref.ref[Any]
    version: int
    address: int

    def same(self, tensor: Any) -> bool:
        """Whether `tensor` is this one."""
        return self.reference() is tensor

    def unchanged(self, tensor: Any) -> bool:
        """Whether `tensor` is this one and was not written since."""
        is_same = self.reference() is tensor
        return is_same and bool(tensor._version == self.version and tensor.data_ptr() == self.address)


@dataclass(frozen=True)
class _Variant:
    """A compiled form of a region: for these weights, numbers and (input, axis, extent) that it fixes.

    `generation` counts how often the content of the weights has changed before.
    """

    model: CompiledModel
    closed: Closed
    weights: tuple[_Weight, ...]
    fixed: tuple[tuple[int, int, int], ...]
    generation: int

    def fits(self, values: Sequence[Any]) -> bool:
        """Whether it computes what the graph does on `values`."""
        return (
            all(weight.unchanged(values[weight.index]) for weight in self.weights)
            and all(values[index] == number for index, number in self.closed.baked.items())
            and all(values[index].shape[axis] == extent for index, axis, extent in self.fixed)
        )

    def stale(self, values: Sequence[Any]) -> bool:
        """Whether its weights are gone, or those of `values` with another content."""
        return any(
            weight.reference() is None
            or (weight.same(values[weight.index]) and not weight.unchanged(values[weight.index]))
            for weight in self.weights
        )

    def run(self, values: Sequence[Any]) -> Sequence[Any]:
        """The results of the graph on `values`."""
        if not self.closed.inputs:
            return [to_torch(result) for result in self.model()]
        return self.model(*(values[index].detach() for index in self.closed.inputs))


class Region:
    """A graph, or a part of one, that torch.compile runs: a callable for the values of its inputs.

    Any thread may call it. Raises UnsupportedError only with `options.strict`: otherwise what cannot be
    compiled runs eagerly and is noted in `fallbacks`.
    """

    def __init__(self, graph: Graph, options: Options, fallbacks: Fallbacks) -> None:
        self._graph = graph
        self._options = options
        self._fallbacks = fallbacks
        self._variants: tuple[_Variant, ...] = ()
        self._eager: Callable[..., Any] | None = None if graph.computes else graph.module
        self._lock = threading.RLock()

    def __call__(self, *values: Any) -> Any:
        """What the graph returns."""
        variant = None if self._eager else self._variant(values)
        if variant is None:
            assert self._eager is not None
            return self._eager(*values)
        try:
            results = variant.run(values)
        except ShapeError as error:  # extents that dlc takes for equal, or numbers, although torch does not
            self._fallbacks.add({"a graph": error.message})
            return self._graph.module(*values)
        outputs = [_output(output, values, results) for output in self._graph.outputs]
        return outputs[0] if self._graph.is_single else tuple(outputs)

    def _variant(self, values: Sequence[Any]) -> _Variant | None:
        """The variant for `values`; None if the region has to run eagerly."""
        for variant in self._variants:
            if variant.fits(values):
                return variant
        with self._lock:
            for variant in self._variants:
                if variant.fits(values):
                    return variant
            if self._eager is not None:
                return None
            try:
                variant = self._compiled(values)
            except (LimitError, ModelError, UnsupportedError) as error:
                if self._options.strict:
                    raise
                self._run_eagerly(error)
                return None
            return variant

    def _compiled(self, values: Sequence[Any]) -> _Variant:
        """A new variant, among those that are kept."""
        refuse(self._graph.findings())
        stale = [variant for variant in self._variants if variant.stale(values)]
        kept = [variant for variant in self._variants if variant not in stale]
        generation = max((variant.generation + 1 for variant in stale), default=0)
        if len(kept) >= 2 * _VARIANTS:
            raise UnsupportedError("it is called with too many sizes that code depends on")
        builds_in = generation <= _CHANGES and len(kept) < _VARIANTS
        weights = _weights(values, self._graph.changed_inputs()) if builds_in else ()
        closed = self._graph.close(values, {weight.index for weight in weights})
        model = _compile(closed, values, self._options)
        fixed = tuple(
            (index, axis, extent)
            for spec, index, axes in zip(model.inputs, closed.inputs, closed.dynamic_shapes, strict=True)
            for axis in axes
            if isinstance(extent := spec.shape[axis], int)
        )
        variant = _Variant(model, closed, weights, fixed, generation)
        self._variants = (variant, *kept)
        return variant

    def _run_eagerly(self, error: Error) -> None:
        """From now on, run in PyTorch what cannot be compiled: single operators if the error names them."""
        findings = error.findings if isinstance(error, UnsupportedError) else ()
        reasons = {self._graph.known_as(finding.operator): finding.reason for finding in findings}
        self._fallbacks.add(reasons or {"a graph": error.message})
        parts = self._graph.split(reasons.keys())
        if parts is None:
            self._eager = self._graph.module
            return
        for name, part in list(parts.named_children()):
            setattr(parts, name, _module(Region(Graph(part), self._options, self._fallbacks)))
        self._eager = parts


def _module(region: Region) -> Any:
    """A region as a part of a graph module."""
    import torch

    module = torch.nn.Module()
    module.forward = region
    return module


def _weights(values: Sequence[Any], changed: AbstractSet[int]) -> tuple[_Weight, ...]:
    """The inputs that are weights: parameters, buffers and other tensors that modules hold.

    Not those that the graph changes, and not those made in inference mode, of which PyTorch does not tell
    whether they change.
    """
    import torch

    return tuple(
        _Weight(index, weakref.ref(value), value._version, value.data_ptr())
        for index, value in enumerate(values)
        if isinstance(value, torch.Tensor)
        and (isinstance(value, torch.nn.Parameter) or hasattr(value, "_dynamo_static_input_type"))
        and index not in changed
        and not value.is_inference()
    )


def _compile(closed: Closed, values: Sequence[Any], options: Options) -> CompiledModel:
    examples = [values[index].detach().clone() for index in closed.inputs]
    # In a thread of its own: graphs run with settings of the thread under which nothing can be traced.
    with ThreadPoolExecutor(1) as thread:
        exported = thread.submit(export, closed.module, examples, None, closed.dynamic_shapes).result()
    with tempfile.TemporaryDirectory() as folder, exported.source(Path(folder)) as source:
        return compile_hooked(source, options, lambda _: None)


def _output(output: Constant | Argument | Result, values: Sequence[Any], results: Sequence[Any]) -> Any:
    match output:
        case Constant(value):
            return value
        case Argument(index):
            return values[index]
        case Result(position, number, order):
            result = results[position]
    if number is not None:
        return number(result)
    if order is None:
        return result
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return result.permute(order).contiguous().permute(inverse)

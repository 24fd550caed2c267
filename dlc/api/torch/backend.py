"""The backend "dlc" of torch.compile."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dlc.api.torch.region import Fallbacks, Region
from dlc.errors import InputError, UnsupportedError, printable
from dlc.frontend.torch.export import require_exporter
from dlc.frontend.torch.graphs import Graph
from dlc.frontend.torch.kept import keep_whole
from dlc.options import Options


def backend(
    graph_module: Any,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """Compile a graph of torch.compile: the backend that ``torch.compile(backend="dlc")`` names.

    `options` are those of :class:`dlc.Options`, as in ``torch.compile(..., options={"threads": 4})``. What
    cannot be exported or compiled runs eagerly, with one warning that names the operator; with strict=True it
    raises UnsupportedError. A graph whose results need gradients raises UnsupportedError when it is called.
    """
    require_exporter()
    from torch._dynamo.backends.common import aot_autograd

    if mode not in (None, "default"):
        raise InputError(
            f"the backend dlc has no mode {printable(repr(mode))}", hint="pass options=", code="input/option"
        )
    keep_whole(graph_module)
    compiler = aot_autograd(
        fw_compiler=_refuse,
        inference_compiler=functools.partial(_compile, _options(options or {})),
        decompositions=_decompositions(),
    )
    compiled: Callable[..., Any] = compiler(graph_module, example_inputs)
    return compiled


def _decompositions() -> Any:
    """What AOTAutograd shall take apart: torch.onnx exports batch normalization for inference, always."""
    import torch
    from torch._decomp import get_decompositions

    aten = torch.ops.aten
    return get_decompositions(
        [aten.native_batch_norm, aten._native_batch_norm_legit, aten._native_batch_norm_legit_functional]
    )


def _options(given: Mapping[str, Any]) -> Options:
    known = {field.name for field in dataclasses.fields(Options)}
    unknown = sorted(map(str, given.keys() - known))
    if unknown:
        raise InputError(
            f"the backend dlc has no option {printable(unknown[0])!r}",
            hint="options are the fields of dlc.Options",
            code="input/option",
        )
    return Options(**given)


def _compile(options: Options, graph_module: Any, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    """What runs a graph; compiling begins at the first call, which brings the weights."""
    fallbacks = Fallbacks()
    region = Region(Graph(graph_module), options, fallbacks)

    def run(values: list[Any]) -> Any:
        own = tuple(values)
        values.clear()  # so that a tensor that nobody needs any more can go
        results = region(*own)
        fallbacks.warn()
        return results

    return _boxed(run)


def _refuse(graph_module: Any, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    """What stands for a graph that needs gradients."""

    def run(values: list[Any]) -> Any:
        raise UnsupportedError(
            "the results of this graph require gradients, which the backend dlc does not compute",
            hint="call it under torch.no_grad() or torch.inference_mode(), or after "
            "module.requires_grad_(False)",
        )

    return _boxed(run)


def _boxed(function: Callable[[list[Any]], Any]) -> Callable[..., Any]:
    """`function` marked as one that takes its arguments in a list, which it may empty."""
    function._boxed_call = True  # type: ignore[attr-defined]
    return function

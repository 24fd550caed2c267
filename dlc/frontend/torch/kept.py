"""Operators that AOTAutograd would take apart, kept whole until torch.onnx exports them.

A linear layer on batches would become Reshape, Gemm and Reshape, and attention an operator that torch.onnx
does not know. In their places stand operators of our own, which compute the same in PyTorch.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_SCHEMAS = {
    "linear": "(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor",
    "scaled_dot_product_attention": "(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, "
    "float dropout_p=0.0, bool is_causal=False, *, float? scale=None, bool enable_gqa=False) -> Tensor",
}


@cache
def _operators() -> dict[Any, Any]:
    """Function of torch.nn.functional -> our operator in its place. Defines them."""
    import torch

    kept = {}
    for name, schema in _SCHEMAS.items():
        function = getattr(torch.nn.functional, name)
        qualified = f"dlc::{name}"
        torch.library.define(qualified, schema)
        torch.library.impl(qualified, "CompositeExplicitAutograd")(function)
        torch.library.register_fake(qualified)(function)
        torch.library.register_autograd(qualified, _no_gradients)
        kept[function] = getattr(torch.ops.dlc, name).default
    return kept


def _no_gradients(context: Any, gradient: Any) -> Any:
    """A derivative for AOTAutograd to trace: the backend refuses to run what needs it."""
    return tuple(None for _ in context.needs_input_grad)


@cache
def originals() -> dict[Any, Any]:
    """Our operator -> the operator of ATen that it stands for."""
    import torch

    return {
        operator: getattr(torch.ops.aten, function.__name__).default
        for function, operator in _operators().items()
    }


def keep_whole(graph_module: Any) -> None:
    """Put our operators into a graph of torch.compile, before AOTAutograd works on it."""
    import torch

    nodes = list(graph_module.graph.nodes)
    # Our operators would not see what autocast does to theirs.
    if torch.is_autocast_enabled("cpu") or any("autocast" in str(node.target) for node in nodes):
        return
    operators = _operators()
    for node in nodes:
        if node.op == "call_function" and node.target in operators and not _drops_out(node):
            node.target = operators[node.target]
    graph_module.recompile()


def _drops_out(node: Any) -> bool:
    """Whether an attention draws random numbers."""
    probability = node.args[4] if len(node.args) > 4 else node.kwargs.get("dropout_p", 0.0)
    return not (isinstance(probability, float | int) and probability == 0)

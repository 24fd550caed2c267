"""Whole modules: their structured arguments and results, as flat lists of the model's inputs and outputs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlc.errors import InputError, UnsupportedError, printable
from dlc.frontend.torch.export import Exported, export, require_exporter
from dlc.frontend.torch.operators import draws_random_numbers, operator_name


@dataclass(frozen=True)
class Leaf:
    """A leaf of the arguments or results: an array of the model, a Python number that the model has as an
    array of rank 0 (of type `number`), or a `constant` that the model does not have.
    """

    is_constant: bool = False
    constant: Any = None
    number: type | None = None


@dataclass(frozen=True)
class Structure:
    """How a module is called: its parameters, and the trees of its arguments and results with their leaves.

    The trees are those of torch.utils._pytree, over ``(args, kwargs)`` and the result.
    """

    parameters: inspect.Signature
    in_tree: Any
    inputs: tuple[Leaf, ...]
    out_tree: Any
    outputs: tuple[Leaf, ...]

    def flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The values of the model's inputs for a call; InputError for a call of another form."""
        from torch.utils import _pytree as trees

        leaves, tree = trees.tree_flatten(_bind(self.parameters, args, kwargs))
        if tree != self.in_tree:
            raise InputError(
                f"the module was compiled for arguments of the form {_form(self.in_tree)}, not {_form(tree)}",
                hint="pass what example_inputs had, of the same structure",
            )
        for number, (leaf, value) in enumerate(zip(self.inputs, leaves, strict=True)):
            if leaf.is_constant and not (type(value) is type(leaf.constant) and value == leaf.constant):
                shown = printable(repr(leaf.constant)), printable(repr(value))
                raise InputError(
                    f"argument {number} was {shown[0]} when the module was compiled, which is part of the "
                    f"code; it cannot be {shown[1]} now",
                    hint="compile the module for each value",
                )
        return [value for leaf, value in zip(self.inputs, leaves) if not leaf.is_constant]

    def unflatten(self, outputs: Sequence[Any]) -> Any:
        """The module's result from the model's outputs."""
        from torch.utils import _pytree as trees

        rest = iter(outputs)
        leaves = [
            leaf.constant
            if leaf.is_constant
            else next(rest)
            if leaf.number is None
            else leaf.number(next(rest))
            for leaf in self.outputs
        ]
        return trees.tree_unflatten(leaves, self.out_tree)


def export_module(module: Any, example_inputs: Any, dynamic_shapes: Any = None) -> tuple[Exported, Structure]:
    """A module as an ONNX model, and how the module is called.

    `example_inputs` are a tuple of positional arguments, a dictionary of named ones, or a tensor; NumPy
    arrays stand for tensors. Raises UnsupportedError also where exporting would lose something: changes of
    buffers or arguments, gradients.
    """
    require_exporter()
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(
            "the module is one of TorchScript, which torch.onnx does not export any more",
            hint="pass the module that it was made from",
        )
    args, kwargs = _arguments(example_inputs)
    _refuse_gradients(module, (args, kwargs))
    _refuse_complex(_tensors((args, kwargs)), "an argument")
    parameters = _parameters(module.forward)
    args, kwargs = _bind(parameters, args, kwargs)
    in_tree, args, kwargs = _own_memory(args, kwargs)
    results = _Results([])
    exported = export(_flattened(module, results), args, kwargs, dynamic_shapes)
    _refuse_complex(_tensors(results.leaves), "a result")
    signature = exported.signature
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        names = ", ".join(printable(name.removeprefix("module.")) for name in changed)
        raise UnsupportedError(
            f"the module changes {names} in place, which a compiled model cannot",
            hint="call module.eval(), or use torch.compile(module, backend='dlc')",
        )
    _refuse_randomness(exported.program.exported_program.graph_module)
    inputs = tuple(_input(spec.arg) for spec in signature.input_specs if spec.kind.name == "USER_INPUT")
    outputs = tuple(_output(leaf, torch) for leaf in results.leaves)
    return exported, Structure(parameters, in_tree, inputs, results.tree, outputs)


def _arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch
    from torch.utils import _pytree as trees

    example_inputs = trees.tree_map_only(np.ndarray, torch.from_numpy, example_inputs)
    match example_inputs:
        case None:
            raise InputError(
                "a module is compiled for arguments like example_inputs",
                hint="pass example_inputs=(x,), or {'x': x}",
                code="input/option",
            )
        case Mapping():
            return (), dict(example_inputs)
        case tuple() | list():
            return tuple(example_inputs), {}
    return (example_inputs,), {}


def _refuse_gradients(module: Any, arguments: Any) -> None:
    """UnsupportedError for a module whose results are to be differentiated."""
    import torch

    if not torch.is_grad_enabled():
        return
    tensors = _tensors(arguments)
    if any(tensor.requires_grad for tensor in tensors):
        raise UnsupportedError(
            "example_inputs require gradients, and compiled models have none",
            hint="pass tensor.detach(), or compile under torch.no_grad() or torch.inference_mode()",
        )
    if module.training and any(parameter.requires_grad for parameter in module.parameters()):
        raise UnsupportedError(
            "the module is in training mode and its parameters require gradients, which compiled models have "
            "not",
            hint="call module.eval() for inference; to compile what it does in training mode, do so under "
            "torch.no_grad() or torch.inference_mode(), or after module.requires_grad_(False)",
        )


def _refuse_complex(tensors: Sequence[Any], what: str) -> None:
    """UnsupportedError for complex tensors, in whose place torch.onnx takes and gives pairs of numbers."""
    if any(tensor.is_complex() for tensor in tensors):
        raise UnsupportedError(
            f"{what} of the module is complex, which torch.onnx does not export as such",
            hint="wrap the module in one that takes and returns torch.view_as_real(...)",
        )


def _refuse_randomness(graph_module: Any) -> None:
    """UnsupportedError for an exported module that is random: torch.onnx keeps no randomness, or another."""
    graphs = [part.graph for part in graph_module.modules() if hasattr(part, "graph")]
    names = {
        operator_name(node): None for graph in graphs for node in graph.nodes if draws_random_numbers(node)
    }
    if names:
        raise UnsupportedError(
            f"the module draws random numbers ({', '.join(names)}), which would not be those of PyTorch",
            hint="call module.eval(), or pass the numbers as an argument",
        )


def _tensors(tree: Any) -> list[Any]:
    """The tensors among the leaves of a tree."""
    import torch
    from torch.utils import _pytree as trees

    return [leaf for leaf in trees.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@dataclass
class _Results:
    """What a module returned while it was traced: all leaves, and their tree."""

    leaves: list[Any]
    tree: Any = None


def _flattened(module: Any, results: _Results) -> Any:
    """`module` with a flat tuple of results that the exporter knows: tensors, and numbers that depend on
    shapes. All that it returns is recorded in `results`.
    """
    import torch
    from torch.utils import _pytree as trees

    kinds = (torch.Tensor, torch.SymInt, torch.SymFloat, torch.SymBool)

    # The exporter names inputs after the parameters of the method.
    @functools.wraps(module.forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        results.leaves, results.tree = trees.tree_flatten(module(*args, **kwargs))
        return tuple(leaf for leaf in results.leaves if isinstance(leaf, kinds))

    flattened = torch.nn.Module()
    flattened.module = module
    flattened.training = module.training
    flattened.forward = forward
    return flattened


def _own_memory(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The tree of the arguments, and the arguments with memory of their own for tensors that stand among them
    twice: the exporter would take them for one input.
    """
    import torch
    from torch.utils import _pytree as trees

    leaves, tree = trees.tree_flatten((args, kwargs))
    seen: set[int] = set()
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, torch.Tensor):
            leaves[index] = leaf.clone() if id(leaf) in seen else leaf
            seen.add(id(leaf))
    args, kwargs = trees.tree_unflatten(leaves, tree)
    return tree, args, kwargs


def _parameters(function: Any) -> inspect.Signature:
    """The parameters of a function without their annotations and defaults, which need not be picklable."""
    parameters = [
        parameter.replace(
            annotation=parameter.empty,
            default=parameter.empty if parameter.default is parameter.empty else None,
        )
        for parameter in inspect.signature(function).parameters.values()
    ]
    return inspect.Signature(parameters)


def _bind(
    parameters: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments as the function takes them, by position where it can: one form for each call."""
    try:
        bound = parameters.bind(*args, **kwargs)
    except TypeError as error:
        raise InputError(f"the arguments do not fit the module: {printable(str(error))}") from None
    return bound.args, bound.kwargs


def _input(argument: Any) -> Leaf:
    match type(argument).__name__:
        case "ConstantArgument":
            return Leaf(is_constant=True, constant=argument.value)
        case "SymIntArgument":
            return Leaf(number=int)
        case "TensorArgument":
            return Leaf()
    raise UnsupportedError(f"an input of the module is a {type(argument).__name__}")


def _output(leaf: Any, torch: Any) -> Leaf:
    numbers = {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}
    for symbolic, number in numbers.items():
        if isinstance(leaf, symbolic):
            return Leaf(number=number)
    is_constant = not isinstance(leaf, torch.Tensor)
    return Leaf(is_constant, leaf if is_constant else None)


def _form(tree: Any) -> str:
    """A tree for a message."""
    return printable(" ".join(str(tree).split()), 300)

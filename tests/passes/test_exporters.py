"""What both PyTorch exporters write for a transformer layer and a convolutional block, raised and folded."""
from __future__ import annotations

import collections
import io
import warnings
from typing import Any

import numpy as np
import pytest

from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.ir.graph import Graph
from dlc.passes.pipeline import default_pipeline

torch = pytest.importorskip("torch")


def operators(graph: Graph) -> collections.Counter[str]:
    """How often each operator, or function of one, occurs."""
    return collections.Counter(getattr(node.op, "fn", node.op.name) for node in graph.nodes)


def exported(module: Any, x: Any, dynamo: bool, opset: int) -> Graph:
    """The graph of a PyTorch module."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            dims = {0: torch.export.Dim("batch", min=2, max=64)}
            torch.onnx.export(module, (x,), file, dynamo=True, opset_version=opset, dynamic_shapes=(dims,),
                              verbose=False)
        else:
            torch.onnx.export(module, (x,), file, dynamo=False, opset_version=opset, input_names=["x"],
                              dynamic_axes={"x": {0: "batch"}})
    return import_model(file.getvalue()).graph


def optimized(graph: Graph, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Run the pipeline without layouts, checking every pass; returns the graph's result."""
    default_pipeline().without("assign-layouts").run(graph, check=True)
    return evaluate(graph, {graph.inputs[0].name: x})[graph.output_name(0)]


class Layer(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Attention and a feed-forward block with residuals, norms before them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.LayerNorm(16), torch.nn.LayerNorm(16)
        self.qkv, self.out = torch.nn.Linear(16, 48), torch.nn.Linear(16, 16)
        self.up, self.down = torch.nn.Linear(16, 32), torch.nn.Linear(32, 16)

    def forward(self, x: Any) -> Any:
        """One layer."""
        batch, length, _ = x.shape
        q, k, v = (part.reshape(batch, length, 4, 4).transpose(1, 2)
                   for part in self.qkv(self.first(x)).chunk(3, dim=-1))
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, 16))
        return x + self.down(torch.nn.functional.gelu(self.up(self.second(x))))


@pytest.mark.slow
@pytest.mark.parametrize("dynamo, opset", [(False, 14), (False, 17), (True, 18), (True, 20)])
def test_transformer_layer(dynamo: bool, opset: int) -> None:
    torch.manual_seed(0)
    module, x = Layer().eval(), torch.randn(3, 5, 16)
    graph = exported(module, x, dynamo, opset)
    result = optimized(graph, x.numpy())
    counts = operators(graph)
    assert {name: counts[name] for name in ("Attention", "LayerNorm", "gelu", "Softmax", "erf", "mean")} \
        == {"Attention": 1, "LayerNorm": 2, "gelu": 1, "Softmax": 0, "erf": 0, "mean": 0}
    np.testing.assert_allclose(result, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


class Block(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Convolution, batch norm and hard-swish, as in mobile networks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Any) -> Any:
        """One block."""
        return torch.nn.functional.hardswish(self.norm(self.conv(x)))


@pytest.mark.slow
@pytest.mark.parametrize("dynamo, opset", [(False, 13), (True, 18)])
def test_convolutional_block(dynamo: bool, opset: int) -> None:
    torch.manual_seed(0)
    module, x = Block().eval(), torch.randn(2, 3, 6, 6)
    graph = exported(module, x, dynamo, opset)
    result = optimized(graph, x.numpy())
    assert operators(graph) == {"Conv": 1, "hard_swish": 1}
    np.testing.assert_allclose(result, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)



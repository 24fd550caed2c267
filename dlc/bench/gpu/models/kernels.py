"""Single kernels, which are held against the bandwidth of a copy or against the vendor's libraries."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlc.bench.gpu.models.workload import Workload

Inputs = Mapping[str, Tensor]


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *operands: Tensor) -> Tensor:
        return self.function(*operands)


class Norm(nn.LayerNorm):
    """A layer norm in 16 bits with weights that are not trivial."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        nn.init.normal_(self.weight)
        nn.init.normal_(self.bias)
        self.half()


def moved(inputs: Inputs) -> int:
    """Bytes of all inputs, and of a result like the first."""
    tensors = [*inputs.values(), next(iter(inputs.values()))]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def matrix(rows: int, columns: int, names: str = "x") -> Callable[[int, bool], Inputs]:
    """Matrices of 16-bit floats, one a name; tiny ones are 32 x 64."""

    def draw(batch: int, tiny: bool) -> Inputs:
        shape = (32, 64) if tiny else (rows, columns)
        return {name: torch.randn(shape).half() for name in names}

    return draw


def squares(extent: int) -> Callable[[int, bool], Inputs]:
    """Two square matrices whose product is of size 1."""

    def draw(batch: int, tiny: bool) -> Inputs:
        n = 32 if tiny else extent
        return {"a": torch.randn(n, n).half(), "b": (torch.randn(n, n) / math.sqrt(n)).half()}

    return draw


def products(inputs: Inputs) -> int:
    """Operations of a product of two square matrices."""
    return int(2 * inputs["a"].shape[0] ** 3)


def heads(length: int) -> Callable[[int, bool], Inputs]:
    """Queries, keys and values of 16 heads of 128."""

    def draw(batch: int, tiny: bool) -> Inputs:
        shape = (batch, 2, 32, 16) if tiny else (batch, 16, length, 128)
        return {name: torch.randn(shape).half() for name in ("query", "key", "value")}

    return draw


def attended(inputs: Inputs) -> int:
    """Operations of attention: two products for each pair of positions."""
    batch, count, length, size = inputs["query"].shape
    return int(4 * batch * count * length * length * size)


def function(name: str, work: Callable[..., Tensor]) -> Callable[[bool], nn.Module]:
    """A builder of a module without weights."""
    return lambda tiny: Function(work)


WORKLOADS = (
    Workload(
        "elementwise",
        function("elementwise", lambda a, b: functional.silu(a) * b + a),
        matrix(8192, 8192, "ab"),
        bytes=moved,
    ),
    Workload(
        "softmax", function("softmax", lambda x: torch.softmax(x, -1)), matrix(16384, 4096), bytes=moved
    ),
    Workload("layer_norm", lambda tiny: Norm(64 if tiny else 4096), matrix(16384, 4096), bytes=moved),
    *(
        Workload(f"matmul_{n}", function("matmul", torch.matmul), squares(n), operations=products)
        for n in (1024, 2048, 4096, 8192)
    ),
    *(
        Workload(
            f"attention_{n}",
            function("attention", functional.scaled_dot_product_attention),
            heads(n),
            operations=attended,
        )
        for n in (1024, 4096)
    ),
)

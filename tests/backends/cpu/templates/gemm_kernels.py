"""Kernels with one product, for the tests of matrix multiplication, and what they should give."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlc.ir.dims import Dim, Symbol, evaluate
from dlc.ir.dtypes import DType
from dlc.ir.types import TensorType
from dlc.lowering import expr as e
from dlc.lowering.kernel import (
    Access,
    Axis,
    AxisKind,
    Contract,
    Contraction,
    Kernel,
    LocalTensor,
    Param,
    Store,
)
from tests.runtime.guarded import guarded

Array = NDArray[Any]

#: Rounding errors allowed for each element, in units of epsilon * sqrt(depth) * sum of |left * right|.
TOLERANCE = 2.0


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An operand: the letters of its axes from outside to inside, its type, whether it is a constant.

    `pad` elements of each row of the innermost axis are not part of the tensor.
    """

    axes: str
    dtype: DType = DType.F32
    constant: bool = False
    pad: int = 0


@dataclasses.dataclass(frozen=True)
class Product:
    """out = left * right summed over the letters that `out` lacks, then `epilogue(sum, symbols)`.

    `extents` gives each letter's extent: a number, or a letter's run-time number with its name in `symbolic`.
    """

    left: Tensor
    right: Tensor
    out: Tensor
    extents: Mapping[str, int]
    symbolic: str = ""
    bias: str = ""
    dtype: DType = DType.F32
    epilogue: Callable[[e.Expr, Mapping[str, Symbol]], e.Expr] | None = None
    expected_epilogue: Callable[[Array], Array] | None = None
    index: Callable[[Mapping[str, Symbol]], Sequence[Dim]] | None = None
    out_shape: tuple[Dim, ...] | None = None

    def extent(self, letter: str) -> Dim:
        """The extent of an axis in the kernel."""
        return Symbol(letter.upper()) if letter in self.symbolic else self.extents[letter]

    @property
    def numbers(self) -> dict[str, int]:
        """The values of the kernel's symbols."""
        return {letter.upper(): self.extents[letter] for letter in self.symbolic}

    def kernel(self) -> Kernel:
        """The kernel."""
        order = [*self.out.axes, *dict.fromkeys(a for a in self.left.axes if a not in self.out.axes)]
        kinds = {a: AxisKind.PARALLEL if a in self.out.axes else AxisKind.REDUCE for a in order}
        axes = [Axis(a, self.extent(a), kinds[a]) for a in order]
        symbols = {axis.name: axis.symbol for axis in axes}
        roles = {
            (True, True): [a for a in self.out.axes if a in self.left.axes and a in self.right.axes],
            (True, False): [a for a in self.out.axes if a in self.left.axes and a not in self.right.axes],
            (False, True): [a for a in self.out.axes if a not in self.left.axes],
        }
        spec = Contraction(
            tuple(roles[True, True]),
            tuple(roles[True, False]),
            tuple(roles[False, True]),
            tuple(a for a in order if a not in self.out.axes),
        )
        local = LocalTensor("sum", self.dtype, tuple(self.out.axes))

        def load(name: str, tensor: Tensor) -> e.Expr:
            value: e.Expr = e.Load(tensor.dtype, name, tuple(symbols[a] for a in tensor.axes))
            return value if tensor.dtype is self.dtype else e.Cast(self.dtype, value)

        params = [self._param("x", self.left, Access.READ), self._param("w", self.right, Access.READ)]
        contract = Contract(local, spec, load("x", self.left), load("w", self.right))
        value: e.Expr = e.Read(self.dtype, "sum", tuple(symbols[a] for a in self.out.axes))
        if self.bias:
            params.append(self._param("b", Tensor(self.bias), Access.READ))
            value = e.Binary(self.dtype, "add", value, load("b", Tensor(self.bias)))
        if self.epilogue is not None:
            value = self.epilogue(value, symbols)
        value = value if value.dtype is self.out.dtype else e.Cast(self.out.dtype, value)
        index = tuple(symbols[a] for a in self.out.axes) if self.index is None else tuple(self.index(symbols))
        params.append(self._param("y", self.out, Access.WRITE, self.out_shape))
        store = Store("y", tuple(self.out.axes), index, value)
        return Kernel("product", tuple(params), tuple(axes), (contract, store))

    def _param(
        self, name: str, tensor: Tensor, access: Access, shape: tuple[Dim, ...] | None = None
    ) -> Param:
        shape = tuple(self.extent(a) for a in tensor.axes) if shape is None else shape
        strides: list[Dim] = []
        step: Dim = 1
        for position, extent in enumerate(reversed(shape)):
            strides.append(step)
            step = step * (extent + tensor.pad if position == 0 else extent)
        return Param(
            name,
            TensorType(tensor.dtype, shape),
            access,
            tuple(reversed(strides)) if tensor.pad else None,
            tensor.constant,
        )

    def arrays(
        self, seed: int = 0, values: Callable[[Any, tuple[int, ...]], Array] | None = None
    ) -> dict[str, Array]:
        """Operands that end at protected pages: a read beyond them ends the process. `y` is full of 7."""
        rng = np.random.default_rng(seed)
        make = values or (lambda generator, shape: generator.standard_normal(shape))
        result: dict[str, Array] = {}
        tensors = {"x": self.left, "w": self.right, **({"b": Tensor(self.bias)} if self.bias else {})}
        for name, tensor in tensors.items():
            shape = tuple(self.extents[a] for a in tensor.axes)
            result[name] = self._place(tensor, shape)
            result[name][...] = make(rng, shape).astype(tensor.dtype.numpy)
        shape = tuple(evaluate(dim, self.numbers) for dim in self.kernel().param("y").type.shape)
        result["y"] = self._place(self.out, shape)
        result["y"][...] = 7
        return result

    def _place(self, tensor: Tensor, shape: tuple[int, ...]) -> Array:
        if not tensor.pad:
            return guarded(shape, tensor.dtype.numpy)
        padded = guarded((*shape[:-1], shape[-1] + tensor.pad), tensor.dtype.numpy)
        padded[...] = np.nan
        view: Array = padded[..., : shape[-1]]
        return view

    def expected(self, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
        """The result in float64 before any other index, and the sum of the magnitudes of its terms."""
        equation = f"{self.left.axes},{self.right.axes}->{self.out.axes}"
        x, w = arrays["x"].astype(np.float64), arrays["w"].astype(np.float64)
        result = np.einsum(equation, x, w, optimize=True)
        scale = np.einsum(equation, np.abs(x), np.abs(w), optimize=True)
        if self.bias:
            bias = arrays["b"].astype(np.float64)
            where = [slice(None) if a in self.bias else None for a in self.out.axes]
            result = result + bias[tuple(where)]
            scale = scale + np.abs(bias[tuple(where)])
        if self.expected_epilogue is not None:
            result = self.expected_epilogue(result)
        return result, scale

    def check(self, arrays: Mapping[str, Array], result: Array | None = None) -> None:
        """Assert that `y` (or `result`) is what it should be, up to rounding."""
        expected, scale = self.expected(arrays)
        depth = 1
        for letter in set(self.left.axes) - set(self.out.axes):
            depth *= self.extents[letter]
        epsilon = float(np.finfo(self.dtype.numpy).eps)
        if self.out.dtype.bits < 32:
            epsilon = max(epsilon, 2.0 ** (-8 if self.out.dtype is DType.BF16 else -11))
        bound = TOLERANCE * epsilon * max(1.0, np.sqrt(depth)) * (scale + np.abs(expected)) + 1e-30
        actual = (arrays["y"] if result is None else result).astype(np.float64)
        assert actual.shape == expected.shape
        assert (np.abs(actual - expected) <= bound).all(), np.abs((actual - expected) / bound).max()

"""A graph under construction: its values with what they hold on the sample inputs, and ways to pick them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from dlc.fuzz.case import Array
from dlc.fuzz.evaluate import evaluate_node
from dlc.fuzz.sampling import ANY, Chance, Domain
from dlc.verify.tolerances import is_float

if TYPE_CHECKING:
    import onnx


class Declined(Exception):
    """Nothing in the graph fits, or the node would not be well defined: the generator draws again."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value: its name, and what it holds. `exact` until an operator that rounds has touched it."""

    name: str
    array: Array
    exact: bool = True
    constant: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents on the sample inputs."""
        shape: tuple[int, ...] = self.array.shape
        return shape

    @property
    def rank(self) -> int:
        """The number of axes."""
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""
        dtype: np.dtype[Any] = self.array.dtype
        return dtype


F16, BF16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
I8, I16, I32, I64 = (np.dtype(f"int{bits}") for bits in (8, 16, 32, 64))
U8, U16, U32, U64 = (np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
BOOL = np.dtype(bool)
FLOATS = (F32, F64, F16, BF16)
INTEGERS = (I64, I32, U8, I8, I16, U16, U32, U64)
NUMBERS = FLOATS + INTEGERS
ALL = (*NUMBERS, BOOL)
#: Types that only quantization gives and takes.
STORED = tuple(
    map(np.dtype, (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2))
)

#: Starts the names of inputs that hold a list of integers: their extents are part of the model.
RUN_TIME = "l"

#: How often a fresh tensor has each element type, where the operator takes it.
_WEIGHTS = {F32: 60, F64: 8, F16: 6, BF16: 2, I64: 8, I32: 8, U8: 4, I8: 4, BOOL: 4}

#: The largest absolute value that further operators get: beyond it they would overflow or cancel.
_LARGEST = 1e5


@functools.cache
def allowed_types(operator: str, opset: int, index: int) -> frozenset[np.dtype[Any]]:
    """Element types that the standard allows for operand `index` of an operator."""
    from onnx import defs

    schema = defs.get_schema(operator, opset, "")
    operands = schema.inputs
    name = operands[min(index, len(operands) - 1)].type_str
    constraints = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    allowed = constraints.get(name, [name])
    return frozenset(dtype for dtype, text in _TYPE_STRINGS.items() if f"tensor({text})" in allowed)


_TYPE_STRINGS: dict[np.dtype[Any], str] = {
    **{dtype: dtype.name for dtype in (*INTEGERS, BOOL, F16, BF16)},
    F32: "float",
    F64: "double",
}


@dataclass
class Maker:
    """The state of one graph. Subgraphs have a maker of their own, whose `outer` sees the values around."""

    chance: Chance
    opset: int
    outer: Maker | None = None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    constants: list[Tensor] = field(default_factory=list)
    computed: list[Tensor] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    counter: list[int] = field(default_factory=lambda: [0])

    # --- picking values

    def visible(self) -> list[Tensor]:
        """All values that a node may read."""
        around = self.outer.visible() if self.outer is not None else []
        return [*around, *self.inputs, *self.constants, *self.computed]

    def pick(
        self,
        dtypes: Collection[np.dtype[Any]] = FLOATS,
        ranks: Sequence[int] = (0, 1, 2, 3, 4),
        domain: Domain = ANY,
        *,
        exact: bool = False,
        fresh: float = 0.2,
        fits: Callable[[Tensor], bool] = lambda _: True,
        shape: Sequence[int] | None = None,
    ) -> Tensor:
        """A value with one of these types and ranks (or exactly `shape`), which `fits`; a new one if need be.

        `domain` bounds its elements where it is given; `exact` asks for a value that nothing has rounded.
        """
        found = [
            tensor
            for tensor in self.visible()
            if tensor.dtype in dtypes
            and (tensor.shape == tuple(shape) if shape is not None else tensor.rank in ranks)
            and (tensor.exact or not exact)
            and (domain is ANY or domain.holds(tensor.array))
            and fits(tensor)
        ]
        if found and not self.chance.maybe(fresh):
            return self.chance.one_of(found[-6:])
        if shape is None:
            for _ in range(20):
                candidate = self.chance.shape(self.chance.one_of(list(ranks)))
                if fits(Tensor("", np.zeros(candidate, F32))):
                    shape = candidate
                    break
            else:
                raise Declined
        return self.fresh(self.dtype_of(dtypes), shape, domain)

    def dtype_of(self, dtypes: Collection[np.dtype[Any]]) -> np.dtype[Any]:
        """One of these types, the common ones more often."""
        known = [dtype for dtype in ALL if dtype in dtypes]
        if not known:
            raise Declined
        return self.chance.random.choices(known, [_WEIGHTS.get(dtype, 1) for dtype in known])[0]

    def types(self, operator: str, index: int = 0) -> frozenset[np.dtype[Any]]:
        """Element types that operand `index` of an operator may have."""
        return allowed_types(operator, self.opset, index)

    def fresh(self, dtype: np.dtype[Any], shape: Sequence[int], domain: Domain = ANY) -> Tensor:
        """A new input, or a new constant, of random values."""
        array = self.chance.array(dtype, shape, domain)
        if self.outer is not None or self.chance.maybe(0.35):
            return self.constant(array)
        tensor = Tensor(self.name("x"), array)
        self.inputs.append(tensor)
        return tensor

    def constant(self, array: Any, dtype: np.dtype[Any] | None = None) -> Tensor:
        """A constant: an initializer or, sometimes, a Constant node."""
        from onnx import helper, numpy_helper

        tensor = Tensor(self.name("c"), np.asarray(array, dtype), constant=True)
        if self.chance.maybe(0.2):
            value = numpy_helper.from_array(tensor.array)
            self.nodes.append(helper.make_node("Constant", [], [tensor.name], value=value))
            self.computed.append(tensor)
        else:
            self.constants.append(tensor)
        return tensor

    def listed(self, values: Sequence[int]) -> Tensor:
        """Integers that say a shape, bounds or counts: a constant or, sometimes, what only a run can tell."""
        array = np.array(values, I64)
        if self.outer is not None or self.chance.maybe(0.75):
            return self.constant(array)
        tensor = Tensor(self.name(RUN_TIME), array)
        self.inputs.append(tensor)
        if self.chance.maybe(0.6):
            return tensor
        shift = self.chance.between(1, 3)
        (shifted,) = self.add("Sub", [tensor, self.constant(shift, I64)], rounds=False)
        (back,) = self.add("Add", [shifted, self.constant(shift, I64)], rounds=False)
        return back

    def partner(self, tensor: Tensor, dtypes: Collection[np.dtype[Any]] = (), domain: Domain = ANY) -> Tensor:
        """A value that can be broadcast with `tensor`, of its type unless others are given."""
        dtypes = dtypes or (tensor.dtype,)

        def fits(other: Tensor) -> bool:
            try:
                return (
                    int(np.prod(np.broadcast_shapes(tensor.shape, other.shape))) <= self.chance.most_elements
                )
            except ValueError:
                return False

        if self.chance.maybe(0.5):
            return self.pick(dtypes, range(6), domain, fits=fits, shape=None, fresh=0.0)
        shape = [1 if self.chance.maybe(0.3) else extent for extent in tensor.shape]
        if self.chance.maybe(0.3):
            shape = shape[self.chance.between(0, len(shape)) :]
        elif len(shape) < 4 and self.chance.maybe(0.15):
            shape = [self.chance.between(1, 3), *shape]
        if int(np.prod(np.broadcast_shapes(tensor.shape, tuple(shape)))) > self.chance.most_elements:
            raise Declined
        return self.fresh(self.dtype_of(dtypes), shape, domain)

    def axis(self, tensor: Tensor, *, end: int = 0) -> int:
        """An axis of `tensor`, sometimes counted from the end; `end` is 1 where a new axis is meant."""
        rank = tensor.rank + end
        if rank == 0:
            raise Declined
        axis = self.chance.between(0, rank - 1)
        return axis - rank if self.chance.maybe(0.3) else axis

    # --- adding nodes

    def add(
        self,
        operator: str,
        inputs: Sequence[Tensor | None],
        *,
        outputs: int = 1,
        rounds: bool = True,
        largest: float = _LARGEST,
        attributes: Mapping[str, Any] | None = None,
        captures: Sequence[Tensor] = (),
        optional: bool = False,
    ) -> list[Tensor]:
        """Append a node; Declined if no engine can run it or its results are not tame.

        `rounds` says whether the results of exact inputs are inexact. `captures` are the values around that
        its subgraphs read. Absent optional inputs are None. With `optional` the node may leave out some of
        its outputs; only those that it has are returned.
        """
        from onnx import helper

        names = ["" if tensor is None else tensor.name for tensor in inputs]
        while names and not names[-1]:
            names.pop()
        results = [self.name("v") for _ in range(outputs)]
        if optional and self.chance.maybe(0.5):
            kept = self.chance.some_of(results, least=1)
            results = [name if name in kept else "" for name in results]
        node = helper.make_node(operator, names, results, name=self.name("n"), **(attributes or {}))
        operands = {t.name: t.array for t in (*inputs, *captures) if t is not None}
        arrays = evaluate_node(node, operands, self.opset)
        if arrays is None or any(not self._is_tame(array, largest) for array in arrays):
            raise Declined
        exact = not rounds and all(t.exact for t in (*inputs, *captures) if t is not None)
        tensors = [
            Tensor(name, array, exact or not is_float(array.dtype))
            for name, array in zip(filter(None, results), arrays)
        ]
        self.nodes.append(node)
        self.computed += tensors
        self.mark_used(operands)
        return tensors

    def mark_used(self, names: Collection[str]) -> None:
        """Note that a node reads these values; what no node reads becomes an output."""
        self.used |= set(names)
        if self.outer is not None:
            self.outer.mark_used(names)

    def name(self, prefix: str) -> str:
        """A name that no value or node of the model has."""
        self.counter[0] += 1
        return f"{prefix}{self.counter[0]}"

    def _is_tame(self, array: Array, largest: float) -> bool:
        """Whether further operators can use a result: small, and neither infinite nor NaN."""
        if array.size > self.chance.most_elements or array.ndim > 6:
            return False
        if not is_float(array.dtype):
            return array.dtype.kind in "iub" or array.dtype in STORED
        wide = np.abs(array.astype(np.float64))
        return bool(np.all(np.isfinite(wide)) and wide.max(initial=0.0) <= largest)

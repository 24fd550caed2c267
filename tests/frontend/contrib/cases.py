"""Generated cases of onnxruntime's operators: a node once compiled, with data of several sizes."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper

import dlc
from dlc.frontend.onnx.extension import MICROSOFT
from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import Specified, assert_close
from tests.helpers.onnx_cases import Array, element_type, run_onnxruntime

#: An extent, or the name of one that a size gives a value.
Extent: TypeAlias = int | str
#: The values of the named extents.
Size: TypeAlias = Mapping[str, int]
Draw: TypeAlias = Callable[[np.random.Generator, tuple[int, ...]], Array]


@dataclasses.dataclass(frozen=True)
class Operand:
    """An operand: its shape, what draws its elements, and whether it is a constant of the model."""

    shape: tuple[Extent, ...]
    draw: Draw
    constant: bool = False

    def array(self, rng: np.random.Generator, size: Size) -> Array:
        """Elements for the extents of `size`."""
        shape = tuple(size[extent] if isinstance(extent, str) else extent for extent in self.shape)
        return np.asarray(self.draw(rng, shape))


@dataclasses.dataclass(frozen=True)
class Counted(Operand):
    """An operand whose content follows from the size."""

    of: Callable[[Size], Array] = dataclasses.field(kw_only=True)

    def array(self, rng: np.random.Generator, size: Size) -> Array:
        return np.asarray(self.of(size))


def counted(shape: tuple[Extent, ...], of: Callable[[Size], Array]) -> Counted:
    """An operand of `shape` whose content `of` makes from the size."""
    return Counted(shape, normal(), of=of)


@dataclasses.dataclass(frozen=True)
class Structure:
    """A node whose named extents are symbols, and the sizes that it is run at: a case each.

    `judge` is the body of a function x0, x1, ... -> y0, y1, ... in onnx's text format, for onnxruntime to run
    where it has no kernel for the node itself. `results` are the numbers of outputs that it knows better than
    the node, None for all. Integers may be `steps` apart in few elements.
    """

    op_type: str
    operands: Sequence[Operand | None]
    sizes: Sequence[Size] = ({},)
    work: Work = Work.POINTWISE
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    outputs: int | Sequence[str] = 1
    domain: str = MICROSOFT
    opset: int = 21
    steps: int = 0
    judge: str = ""
    specified: Callable[[Size, Sequence[Array]], Sequence[Array]] | None = None

    @property
    def known(self) -> Structure:
        """The same at its first size, whose extents are numbers."""
        size = self.sizes[0]
        operands = [
            None
            if operand is None
            else dataclasses.replace(
                operand, shape=tuple(size[e] if isinstance(e, str) else e for e in operand.shape)
            )
            for operand in self.operands
        ]
        return dataclasses.replace(self, operands=operands, sizes=(size,))

    def check(self) -> None:
        """Compare evaluator and native code with onnxruntime at every size; no node may run on the host."""
        rng = np.random.default_rng(zlib.crc32(repr((self.op_type, dict(self.attributes))).encode()))
        constants = {
            f"x{index}": operand.array(rng, {})
            for index, operand in enumerate(self.operands)
            if operand is not None and operand.constant
        }
        runs = [(size, self._feeds(rng, size)) for size in self.sizes]
        model = self._model([self._node()], constants, runs[0][1])
        judge = self._model(judged(self.judge), constants, runs[0][1]) if self.judge else model
        graph = import_model(model).graph
        with dlc.compile(model, strict=True, cache=False) as compiled:
            for size, feeds in runs:
                expected = run_onnxruntime(judge, feeds)
                assert expected is not None, "onnxruntime has no kernel for the node"
                values = evaluate(graph, dict(feeds))
                evaluated = [values[output.name] for output in graph.outputs]
                native = [np.array(output) for output in compiled.run(None, feeds)]
                self._compare(f"evaluated at {dict(size)}", evaluated, expected, size)
                self._compare(f"native at {dict(size)}", native, expected, size)

    def _compare(self, what: str, actual: Sequence[Array], expected: Sequence[Array], size: Size) -> None:
        assert len(actual) == len(expected), what
        select: Specified = list if self.specified is None else lambda all_: self.specified(size, all_)
        for index, (got, want) in enumerate(zip(select(actual), select(expected), strict=True)):
            assert_close(f"result {index} {what}", got, np.asarray(want), self.work, self.steps)

    def _feeds(self, rng: np.random.Generator, size: Size) -> dict[str, Array]:
        return {
            f"x{index}": operand.array(rng, size)
            for index, operand in enumerate(self.operands)
            if operand is not None and not operand.constant
        }

    def _names(self) -> list[str]:
        outputs = self.outputs
        return [f"y{index}" for index in range(outputs)] if isinstance(outputs, int) else list(outputs)

    def _node(self) -> onnx.NodeProto:
        inputs = ["" if operand is None else f"x{index}" for index, operand in enumerate(self.operands)]
        while not inputs[-1]:
            inputs.pop()
        present = {key: value for key, value in self.attributes.items() if value is not None}
        return helper.make_node(
            self.op_type, inputs, self._names(), name=f"the_{self.op_type}", domain=self.domain, **present
        )

    def _model(
        self, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Array], feeds: Mapping[str, Array]
    ) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(name, element_type(array), self.operands[int(name[1:])].shape)
            for name, array in feeds.items()
        ]
        initializers = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
        results = [onnx.ValueInfoProto(name=name) for name in self._names() if name]
        graph = helper.make_graph(nodes, self.op_type, inputs, results, initializers)
        domains = {"": self.opset} | {node.domain: 1 for node in nodes if node.domain}
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def judged(body: str) -> list[onnx.NodeProto]:
    """The nodes of a function's body in onnx's text format."""
    head = f'<opset_import: ["" : 21, "{MICROSOFT}" : 1], domain: "judge"> f (x) => (y)'
    return list(onnx.parser.parse_function(f"{head} {{ {body} }}").node)


def some(options: Sequence[Any], index: int) -> Any:
    """Option number `index`, counted around: to meet all options of several lists without their product."""
    return options[index % len(options)]


def sizes(**extents: Sequence[int]) -> list[dict[str, int]]:
    """The size of each column of a table of extents."""
    return [dict(zip(extents, column)) for column in zip(*extents.values(), strict=True)]


# --- what draws elements


def normal(dtype: Any = np.float32, scale: float = 1.0) -> Draw:
    """Normal numbers."""
    return lambda rng, shape: (rng.standard_normal(shape) * scale).astype(dtype)


def whole(dtype: Any, low: int | None = None, high: int | None = None) -> Draw:
    """Integers from low to high, by default all of the type."""
    info = np.iinfo(dtype)
    first, last = info.min if low is None else low, info.max if high is None else high
    return lambda rng, shape: rng.integers(first, last, shape, endpoint=True).astype(dtype)


def uniform(low: float, high: float, dtype: Any = np.float32) -> Draw:
    """Numbers between two."""
    return lambda rng, shape: np.asarray(rng.uniform(low, high, shape)).astype(dtype)


def given(array: Any, dtype: Any = None, constant: bool = True) -> Operand:
    """An operand of known content."""
    content = np.asarray(array, dtype)
    return Operand(content.shape, lambda rng, shape: content, constant)

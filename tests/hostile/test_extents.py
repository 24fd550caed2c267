"""Operands whose extents belong together: where all are symbols, a call whose arrays disagree is refused.

Nothing but a guard stands between such a call and accesses outside of an operand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import dlc

Shape = tuple[int, ...]
FLOAT, INT64, INT32, UINT8, BOOL = (
    getattr(TensorProto, name) for name in ("FLOAT", "INT64", "INT32", "UINT8", "BOOL")
)


@dataclass(frozen=True)
class Use:
    """One node: its operands' shapes, and shapes that do not fit the others.

    Operands are float, but for those in `types`. In `fixed` are the operands whose extents are numbers.
    """

    operator: str
    shapes: dict[str, Shape]
    unfit: tuple[dict[str, Shape], ...]
    types: dict[str, int] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    outputs: int = 1

    def model(self) -> dlc.CompiledModel:
        inputs = []
        for name, shape in self.shapes.items():
            extents = shape if name in self.fixed else [f"{name}{axis}" for axis in range(len(shape))]
            inputs.append(helper.make_tensor_value_info(name, self.types.get(name, FLOAT), extents))
        names = [f"y{number}" for number in range(self.outputs)]
        node = helper.make_node(self.operator, list(self.shapes), names, name="the_node", **self.attributes)
        infos = [helper.make_empty_tensor_value_info(name) for name in names]
        graph = helper.make_graph([node], "g", inputs, infos)
        opsets = [helper.make_opsetid("", 24)]
        return dlc.compile(helper.make_model(graph, opset_imports=opsets, ir_version=10), cache=False)

    def arrays(self, shapes: dict[str, Shape]) -> dict[str, Any]:
        return {
            name: np.zeros(shape, helper.tensor_dtype_to_np_dtype(self.types.get(name, FLOAT)))
            for name, shape in {**self.shapes, **shapes}.items()
        }


INDICES = {"i": INT64}
USES = [
    Use(
        "ScatterElements",
        {"x": (3, 2), "i": (2, 2), "u": (2, 2)},
        ({"i": (17, 2)}, {"u": (1, 2)}, {"i": (2, 9), "u": (2, 9)}),
        INDICES,
    ),
    Use(
        "ScatterND", {"x": (3, 2), "i": (4, 1), "u": (4, 2)}, ({"u": (1, 2)}, {"u": (4, 1)}), INDICES, {}, "i"
    ),
    Use(
        "TensorScatter",
        {"x": (2, 4, 3), "u": (2, 1, 3), "i": (2,)},
        ({"u": (1, 1, 3)}, {"u": (2, 1, 2)}, {"u": (2, 5, 3)}, {"i": (9,)}),
        INDICES,
    ),
    Use("GatherElements", {"x": (3, 2), "i": (2, 2)}, ({"i": (2, 9)},), INDICES),
    Use("GatherND", {"x": (3, 2), "i": (3, 1)}, ({"x": (2, 2)},), INDICES, {"batch_dims": 1}, "i"),
    Use("ReverseSequence", {"x": (5, 3), "n": (3,)}, ({"n": (9,)}, {"n": (1,)}), {"n": INT64}),
    Use(
        "RoiAlign",
        {"x": (1, 2, 4, 4), "r": (3, 4), "b": (3,)},
        ({"b": (1,)}, {"r": (9, 4)}, {"r": (3, 3)}),
        {"b": INT64},
    ),
    Use("GridSample", {"x": (2, 1, 4, 4), "g": (2, 3, 3, 2)}, ({"g": (9, 3, 3, 2)}, {"g": (2, 3, 3, 1)})),
    Use(
        "NonMaxSuppression",
        {"b": (1, 5, 4), "s": (1, 2, 5)},
        ({"b": (1, 2, 4)}, {"b": (1, 5, 2)}, {"s": (7, 2, 5)}),
    ),
    Use(
        "DeformConv",
        {"x": (1, 2, 5, 5), "w": (3, 2, 2, 2), "o": (1, 8, 4, 4)},
        ({"o": (1, 8, 2, 2)}, {"o": (1, 2, 4, 4)}, {"w": (3, 1, 2, 2)}),
        fixed=("w",),
    ),
    Use("Conv", {"x": (1, 2, 5), "w": (3, 2, 2), "b": (3,)}, ({"w": (3, 1, 2)}, {"b": (1,)}, {"b": (9,)})),
    Use(
        "OneHot",
        {"i": (3,), "d": (1,), "v": (2,)},
        ({"v": (3,)}, {"v": (1,)}),
        dict.fromkeys("id", INT64),
        {},
        "d",
    ),
    Use(
        "QLinearConv",
        {"x": (1, 2, 5), "a": (), "b": (), "w": (3, 2, 2), "c": (3,), "d": (3,), "e": (), "f": ()},
        ({"c": (2,)}, {"c": (9,)}, {"d": (2,), "c": (2,)}),
        dict.fromkeys("xbwdf", UINT8),
    ),
    Use(
        "QLinearMatMul",
        {"x": (2, 5), "a": (2,), "b": (2,), "w": (5, 3), "c": (3,), "d": (3,), "e": (), "f": ()},
        ({"c": (2,)}, {"a": (9,), "b": (9,)}, {"d": (2,), "c": (2,)}),
        dict.fromkeys("xbwdf", UINT8),
    ),
    Use("MatMulInteger", {"x": (2, 5), "w": (5, 3), "z": (2,)}, ({"z": (3,)},), dict.fromkeys("xwz", UINT8)),
    Use("Conv", {"x": (1, 2, 5), "w": (3, 2, 2)}, ({"w": (3, 2, 1)},), attributes={"kernel_shape": [2]}),
    Use("ConvTranspose", {"x": (1, 2, 5), "w": (2, 3, 2), "b": (3,)}, ({"w": (9, 3, 2)}, {"b": (1,)})),
    Use("MatMul", {"a": (2, 3), "b": (3, 4)}, ({"b": (9, 4)}, {"b": (2, 4)})),
    Use("Gemm", {"a": (2, 3), "b": (3, 4), "c": (2, 4)}, ({"b": (9, 4)}, {"c": (3, 4)}, {"c": (2, 9)})),
    Use("Einsum", {"a": (2, 3), "b": (3, 4)}, ({"b": (9, 4)},), attributes={"equation": "ij,jk->ik"}),
    Use("Add", {"a": (2, 3), "b": (3,)}, ({"b": (2,)}, {"a": (2, 9)})),
    Use("Where", {"c": (2, 3), "a": (3,), "b": (2, 1)}, ({"a": (2,)}, {"b": (3, 1)}), {"c": BOOL}),
    Use("Concat", {"a": (2, 3), "b": (4, 3)}, ({"b": (4, 2)}, {"b": (4, 9)}), attributes={"axis": 0}),
    Use("PRelu", {"x": (2, 3), "s": (3,)}, ({"s": (2,)}, {"x": (2, 1)})),
    Use("BatchNormalization", dict.fromkeys("x", (1, 3, 2)) | dict.fromkeys("sbmv", (3,)), ({"v": (1,)},)),
    Use("InstanceNormalization", {"x": (1, 3, 2), "s": (3,), "b": (3,)}, ({"s": (1,)}, {"b": (9,)})),
    Use("LayerNormalization", {"x": (2, 3), "s": (3,), "b": (3,)}, ({"s": (2,)}, {"b": (9,)})),
    Use("RMSNormalization", {"x": (2, 3), "s": (3,)}, ({"s": (2,)}, {"x": (2, 9)})),
    Use(
        "LSTM",
        {"x": (2, 1, 3), "w": (1, 16, 3), "r": (1, 16, 4), "b": (1, 32)},
        ({"w": (1, 16, 2)}, {"b": (1, 16)}, {"w": (1, 4, 3)}),
        attributes={"hidden_size": 4},
        fixed=("r",),
        outputs=3,
    ),
    Use(
        "Attention",
        {"q": (1, 2, 3, 4), "k": (1, 2, 5, 4), "v": (1, 2, 5, 4), "m": (3, 5)},
        ({"k": (1, 2, 5, 3)}, {"v": (1, 2, 4, 4)}, {"m": (2, 5)}, {"k": (2, 2, 5, 4), "v": (2, 2, 5, 4)}),
        attributes={"scale": 0.5},
    ),
    Use(
        "DequantizeLinear",
        {"x": (2, 3), "s": (3,), "z": (3,)},
        ({"s": (1,)}, {"z": (2,)}),
        {"x": INT32, "z": INT32},
    ),
    Use("Det", {"x": (2, 3, 3)}, ({"x": (2, 3, 2)},)),
]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.operator)
def test_extents_that_disagree_are_refused(use: Use) -> None:
    with use.model() as model:
        model(use.arrays({}))
        for shapes in use.unfit:
            with pytest.raises(dlc.ShapeError):
                model(use.arrays(shapes))
        model(use.arrays({}))

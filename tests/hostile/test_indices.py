"""Indices that come from data: in range they work, out of range they are an IndexFault that names the node.
"""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_tensor_value_info as info

import dlc

ROWS, COLUMNS = 5, 7
DATA = np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)


def compiled(
    op: str, shapes: dict[str, list[int]], result: list[int], **attributes: object
) -> dlc.CompiledModel:
    """A model of one node whose operands are inputs; those called `indices` are integers."""
    inputs = [
        info(name, TensorProto.INT64 if name == "indices" else TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    node = helper.make_node(op, list(shapes), ["y"], name="the_node", **attributes)
    graph = helper.make_graph([node], "g", inputs, [info("y", TensorProto.FLOAT, result)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return dlc.compile(model, cache=False)


CASES = {
    "Gather": ({"x": [ROWS, COLUMNS], "indices": [3]}, [3, COLUMNS], {"axis": 0}, ROWS),
    "Gather of columns": ({"x": [ROWS, COLUMNS], "indices": [3]}, [ROWS, 3], {"axis": 1}, COLUMNS),
    "GatherElements": ({"x": [ROWS, COLUMNS], "indices": [2, COLUMNS]}, [2, COLUMNS], {"axis": 0}, ROWS),
    "GatherND": ({"x": [ROWS, COLUMNS], "indices": [3, 2]}, [3], {}, ROWS),
    "ScatterElements": (
        {"x": [ROWS, COLUMNS], "indices": [2, COLUMNS], "updates": [2, COLUMNS]},
        [ROWS, COLUMNS],
        {"axis": 0},
        ROWS,
    ),
    "ScatterND": (
        {"x": [ROWS, COLUMNS], "indices": [3, 1], "updates": [3, COLUMNS]},
        [ROWS, COLUMNS],
        {},
        ROWS,
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("bad", ["high", "low", "far", "huge"])
def test_an_index_out_of_range_is_a_fault(name: str, bad: str) -> None:
    shapes, result, attributes, extent = CASES[name]
    model = compiled(name.split()[0], shapes, result, **attributes)
    indices = np.zeros(shapes["indices"], np.int64)
    feeds = {"x": DATA, "indices": indices}
    if "updates" in shapes:
        feeds["updates"] = np.ones(shapes["updates"], np.float32)
    assert np.isfinite(model(feeds)[0]).all()
    indices.reshape(-1)[-1 if "ND" not in name else 0] = {
        "high": extent,
        "low": -extent - 1,
        "far": 1 << 40,
        "huge": np.iinfo(np.int64).min,
    }[bad]
    with pytest.raises(dlc.IndexFault, match="the_node"):
        model(feeds)
    indices[...] = extent - 1
    assert np.isfinite(model(feeds)[0]).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fault_does_not_depend_on_threads(threads: int) -> None:
    rows = 20_000
    shapes = {"x": [ROWS, COLUMNS], "indices": [rows]}
    node = helper.make_node("Gather", ["x", "indices"], ["y"], name="the_node")
    graph = helper.make_graph(
        [node],
        "g",
        [info("x", TensorProto.FLOAT, shapes["x"]), info("indices", TensorProto.INT64, shapes["indices"])],
        [info("y", TensorProto.FLOAT, [rows, COLUMNS])],
    )
    model = dlc.compile(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9),
        threads=threads,
        cache=False,
    )
    indices = np.zeros(rows, np.int64)
    indices[[rows // 2, rows - 1]] = ROWS
    messages = set()
    for _ in range(20):
        with pytest.raises(dlc.IndexFault) as caught:
            model(DATA, indices)
        messages.add(str(caught.value))
    assert len(messages) == 1

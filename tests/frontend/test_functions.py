"""The table of model-local functions: sizes and depths before anything is inlined."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from dlc.errors import LimitError, ModelError
from dlc.frontend.onnx.functions import (
    FunctionTable,
    all_nodes,
    normalize_domain,
    opset_imports,
)
from dlc.limits import Limits

IMPORTS = [helper.make_opsetid("", 18), helper.make_opsetid("d", 1)]


def function(name: str, *callees: str, overload: str = "") -> onnx.FunctionProto:
    nodes = [
        helper.make_node(callee, ["v"], [f"r{index}"], domain="d") for index, callee in enumerate(callees)
    ]
    made = helper.make_function(
        "d", name, ["v"], ["r0"], nodes or [helper.make_node("Neg", ["v"], ["r0"])], IMPORTS
    )
    made.overload = overload
    return made


def call(name: str, domain: str = "d") -> onnx.NodeProto:
    return helper.make_node(name, ["x"], ["y"], domain=domain)


def chain(length: int, width: int) -> list[onnx.FunctionProto]:
    """f0 calls f1 `width` times, which calls f2 `width` times, and so on."""
    return [function(f"f{i}", *[f"f{i + 1}"] * width if i + 1 < length else ()) for i in range(length)]


def test_functions_are_found_by_domain_name_and_overload() -> None:
    table = FunctionTable([function("A"), function("A", overload="other")], Limits())
    found = table.find(call("A"))
    assert found is not None and found.overload == ""
    assert table.find(call("A", "elsewhere")) is None
    assert table.find(call("B")) is None
    with pytest.raises(ModelError, match="'d::A' is defined twice"):
        FunctionTable([function("A"), function("A")], Limits())


def test_the_inlined_size_is_known_before_inlining() -> None:
    # 2 + 4 + 8 + 16 + 16 nodes: each of 16 leaves holds one.
    table = FunctionTable(chain(5, 2), Limits())
    nodes = [call("f0")]
    table.check_inlined_size(nodes)
    exact = 2 + 4 + 8 + 16 + 16
    FunctionTable(chain(5, 2), Limits(inlined_nodes=exact)).check_inlined_size(nodes)
    with pytest.raises(LimitError, match="46 exceeds the limit of 45"):
        FunctionTable(chain(5, 2), Limits(inlined_nodes=exact - 1)).check_inlined_size(nodes)


def test_a_bomb_is_measured_not_built() -> None:
    table = FunctionTable(chain(31, 2), Limits())
    with pytest.raises(LimitError, match="nodes after functions are inlined: 3,221,225,470"):
        table.check_inlined_size([call("f0")])


def test_calls_in_subgraphs_count() -> None:
    body = helper.make_graph([call("f0")], "body", [], [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    with pytest.raises(LimitError):
        FunctionTable(chain(3, 2), Limits(inlined_nodes=19)).check_inlined_size([node])
    assert len(list(all_nodes([node]))) == 3


def test_depth_is_limited() -> None:
    FunctionTable(chain(10, 1), Limits(function_depth=10))
    with pytest.raises(LimitError, match="nesting of function 'd::f0': 10 exceeds the limit of 9"):
        FunctionTable(chain(10, 1), Limits(function_depth=9))


@pytest.mark.parametrize("functions", [[function("A", "A")], [function("A", "B"), function("B", "B", "A")]])
def test_recursion_is_refused_though_nothing_calls_it(functions: list[onnx.FunctionProto]) -> None:
    with pytest.raises(ModelError, match="without end"):
        FunctionTable(functions, Limits())


def test_recursion_through_a_subgraph_is_found() -> None:
    made = function("A")
    body = helper.make_graph([call("A")], "body", [], [])
    made.node.append(helper.make_node("If", ["v"], ["q"], then_branch=body, else_branch=body))
    with pytest.raises(ModelError, match="d::A -> d::A"):
        FunctionTable([made], Limits())


def test_names_in_messages_are_escaped() -> None:
    with pytest.raises(ModelError) as caught:
        FunctionTable([function("A\n\x1b[31m"), function("A\n\x1b[31m")], Limits())
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)


def test_domains_and_opsets() -> None:
    assert normalize_domain("ai.onnx") == "" and normalize_domain("ai.onnx.ml") == "ai.onnx.ml"
    twice = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx", 13)]
    assert opset_imports(twice, 8, "the model") == {"": 13}
    assert opset_imports([], 2, "the model") == {"": 1}
    with pytest.raises(ModelError, match="two versions of operator set"):
        opset_imports([*twice, helper.make_opsetid("", 14)], 8, "the model")

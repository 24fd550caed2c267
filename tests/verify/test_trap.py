"""The first node that makes a NaN or an infinity, alone and inside a fused kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from dlc.cli.app import run
from dlc.verify.trap import TrapReport, trap

SIGNATURE = "(float[3, 5] x, float[3, 5] c, float[5, 4] w) => (float[3, 4] y)"
X, C = np.ones((3, 5), np.float32), np.zeros((3, 5), np.float32)
W = np.full((5, 4), 0.5, np.float32)


def model(body: str, signature: str = SIGNATURE) -> onnx.ModelProto:
    parsed = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {signature} {{ {body} }}')
    for node in parsed.graph.node:
        node.name = f"node_{node.output[0]}"
    return parsed


CHAIN = model("a = Mul (x, x)  b = Sub (a, c)  l = Sqrt (b)  y = MatMul (l, w)")


def caught(kind: str, **changes: np.ndarray) -> TrapReport:
    return trap(CHAIN, {"x": X, "c": C, "w": W, **changes}, kind)


def test_a_node_of_a_fused_kernel() -> None:
    c = C.copy()
    c[1, 2], c[2, 0] = 2, 3
    report = caught("nan", c=c)
    found = report.found
    assert not report and found is not None and found.nodes == ("node_l",) and found.value == "l"
    assert found.index == (1, 2) and found.count == 2 and found.elements == 15 and found.step == 0
    (operand,) = found.operands
    assert operand.name == "b" and (operand.low, operand.high) == (-2, 1)
    assert "the first nan is made by node_l" in str(report) and "operand b" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["found"]["nodes"] == ["node_l"]
    assert caught("inf", c=c)


def test_a_contraction() -> None:
    report = caught("inf", x=X * 100, w=W * np.float32(3e38))
    assert report.found is not None and report.found.nodes == ("node_y",) and report.found.index == (0, 0)


def test_nothing_to_find() -> None:
    for kind in ("nan", "inf"):
        report = caught(kind)
        assert report and report.found is None and str(report) == f"no node makes {kind}"


def test_what_comes_in_is_no_news() -> None:
    x = X.copy()
    x[0, 0] = np.nan
    report = caught("nan", x=x)
    assert report and report.inputs == ("x",) and "input x holds nan itself" in str(report)


def test_infinities_of_constants_are_meant() -> None:
    """Masks of attention are -inf on purpose."""
    masked = model(
        "low = Constant <value_float = -inf> ()  m = Where (k, x, low)  y = Softmax (m)",
        "(float[2, 4] x, bool[2, 4] k) => (float[2, 4] y)",
    )
    keep = np.array([[True, False, True, True], [False, False, False, False]])
    inputs = {"x": X[:2, :4], "k": keep}
    assert trap(masked, inputs, "inf")
    report = trap(masked, inputs, "nan")  # a row that is masked entirely
    assert report.found is not None and report.found.nodes == ("node_y",) and report.found.index == (1, 0)


@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_the_command(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(CHAIN, path)
    np.savez(tmp_path / "x.npz", x=X * np.float32(1e30), c=C, w=W)
    status = run(["run", str(path), "--inputs", str(tmp_path / "x.npz"), "--trap", kind, "--json"])
    data: dict[str, Any] = json.loads(capfd.readouterr().out)
    assert (status, data["kind"]) == ((1, kind) if kind == "inf" else (0, kind))
    assert (data["found"] or {}).get("nodes") == (["node_a"] if kind == "inf" else None)
    assert run(["run", str(path), "--trap", kind, "--outputs", str(tmp_path / "y.npz")]) == 2

"""dlc.compile and dlc.check: sources, options that change the result or are refused, errors."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import dlc
from dlc.errors import (
    ExternalDataError,
    InputError,
    LimitError,
    ModelError,
    ResourceError,
    ShapeError,
    UnsupportedError,
)
from dlc.ir.ops.reduction import Cumulative
from dlc.lowering.rules import registry
from dlc.models import digits_path
from tests.api.small_models import AFFINE, affine_inputs, affine_outputs, parse

INPUTS = affine_inputs()
Y = affine_outputs(**INPUTS)[0]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> onnx.ModelProto:
    """A model with a node that runs on the host: the rule that lowers its operator is taken away."""
    registry.lowered_operators()
    monkeypatch.delitem(registry._RULES, Cumulative)
    return parse(
        "host (float[n, 4] x) => (float[n, 4] y)",
        "one = Constant <value_int = 1> ()  r = CumSum (x, one)  y = Sub (r, x)",
    )


def test_every_kind_of_source(tmp_path: Path) -> None:
    content = AFFINE.SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    for source in (path, str(path), content, io.BytesIO(content), AFFINE):
        with dlc.compile(source, cache=False) as model:
            assert np.array_equal(model(INPUTS)["y"], Y) and model.name


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_every_level_gives_the_answer(level: int) -> None:
    with dlc.compile(AFFINE, optimize=level, cache=False) as model:
        assert np.allclose(model(INPUTS)["y"], Y, rtol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "shape"), [({"n": 4}, (4, 3)), ({"n": (1, 4, 64)}, ("n", 3)), ({"x": (4, 3)}, (4, 3))]
)
def test_shapes_fix_and_hint(shapes: Any, shape: tuple[Any, ...]) -> None:
    with dlc.compile(AFFINE, shapes=shapes, cache=False) as model:
        assert model.inputs[0].shape == model.outputs[0].shape == shape
        assert np.array_equal(model(INPUTS)["y"], Y)
        if shape[0] == 4:
            with pytest.raises(ShapeError, match=r"must have shape \[4, 3\]"):
                model(affine_inputs(rows=5))


def test_extra_outputs() -> None:
    with dlc.compile(AFFINE, outputs=["d"], cache=False) as model:
        outputs = model(INPUTS)
        assert outputs.names == ("y", "z", "d") and np.array_equal(outputs["d"], INPUTS["x"] * 2)
    with pytest.raises(InputError, match="no value 'e'"):
        dlc.compile(AFFINE, outputs=["e"], cache=False)


def test_progress_and_phases() -> None:
    heard: list[str] = []
    with dlc.compile(AFFINE, progress=heard.append, cache=False) as model:
        report = model.report()
    assert heard == ["import", "optimize", "lower", "generate"] == [name for name, _ in report.phases]
    assert all(seconds >= 0 for _, seconds in report.phases)


def test_hosts_are_told_and_refused_on_demand(
    host: onnx.ModelProto, caplog: pytest.LogCaptureFixture
) -> None:
    ones, counted = np.ones((2, 4), np.float32), [[0, 1, 2, 3]] * 2
    with dlc.compile(host, cache=False) as model:
        assert model(ones)["y"].tolist() == counted
        (told,) = model.report().hosts
        assert model.report().native_share < 1 and told.node == "node_r"
        assert told.cost == "4*n operations, 32*n bytes" and str(told) in str(model.report())
        (record,) = caplog.records
        assert record.name == "dlc" and "node_r (Cumulative): no kernel is written" in record.message
        with dlc.load(model.to_bytes()) as loaded:
            assert loaded(ones)["y"].tolist() == counted and loaded.report().hosts == (told,)
    with pytest.raises(UnsupportedError) as caught:
        dlc.compile(host, strict=True, cache=False)
    assert caught.value.code == "unsupported/strict" and caught.value.findings[0].node == "node_r"
    assert "1 node has no native kernel" in str(caught.value)
    assert "run it on the host (4*n operations, 32*n bytes a call)" in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"target": ["native", "x86-64-v3"]},
        {"precision": "tf32"},
        {"accuracy": "fast"},
        {"alias": {"x": "y"}},
        {"tune": True},
    ],
    ids=str,
)
def test_what_is_not_carried_out_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError):
        dlc.compile(AFFINE, cache=False, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"optimize": 4},
        {"optimize": True},
        {"precision": "int3"},
        {"accuracy": None},
        {"threads": 0},
        {"threads": "2"},
        {"memory": "huge"},
        {"shapes": {"n": -1}},
        {"shapes": {"m": 4}},
        {"shapes": [4]},
        {"shapes": {"x": (4, 5)}},
        {"outputs": "y"},
        {"strict": 1},
        {"limits": {"nodes": 3}},
        {"target": ""},
        {"external_data_dir": 3},
    ],
    ids=str,
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(dlc.Error) as caught:
        dlc.compile(AFFINE, cache=False, **options)
    assert caught.value.code.startswith(("input", "unsupported/target"))


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (b"", ModelError),
        (b"\x00\xff garbage", ModelError),
        ("no/such/model.onnx", InputError),
        (Path("."), InputError),
        (None, InputError),
        (3, InputError),
        (onnx.ModelProto(), ModelError),
    ],
    ids=["empty", "garbage", "no file", "a folder", "None", "a number", "an empty message"],
)
def test_what_is_no_model(source: Any, error: type[dlc.Error]) -> None:
    for function in (dlc.compile, dlc.check):
        with pytest.raises(error):
            function(source)


def test_findings_come_all_at_once() -> None:
    model = parse("g (float[4] x) => (float[4] a, float[4] y)", "a = Neg (x)  y = Abs (x)")
    model.opset_import.add(domain="somewhere", version=1)
    for node, name in zip(model.graph.node, ("Frobnicate", "Quux")):
        node.op_type, node.domain = name, "somewhere"
    with pytest.raises(UnsupportedError) as caught:
        dlc.compile(model, cache=False)
    assert [finding.node for finding in caught.value.findings] == ["node_a", "node_y"]
    assert "Frobnicate" in str(caught.value) and "Quux" in str(caught.value)
    assert dlc.check(model).findings == tuple(caught.value.findings)


def test_limits_come_before_the_work() -> None:
    with pytest.raises(LimitError, match="nodes"):
        dlc.compile(AFFINE, limits=dlc.Limits(nodes=1), cache=False)
    small = dlc.Limits(arena_bytes=1 << 20)
    model = parse(
        "g (float[n, 64] x) => (float[64, 64] y)", "t = Transpose <perm = [1, 0]> (x)  y = MatMul (t, x)"
    )
    with dlc.compile(model, limits=small, optimize=0, cache=False) as compiled:
        compiled(np.ones((8, 64), np.float32))
        assert compiled._native.arena_limit == 1 << 20


def test_outputs_that_do_not_fit_in_memory() -> None:
    model = parse("g (float[n, 1] x, float[1, m] z) => (float[n, m] y)", "y = Add (x, z)")
    with dlc.compile(model, cache=False) as compiled:
        long = np.zeros(10_000_000, np.float32)
        with pytest.raises(ResourceError) as caught:
            compiled(long[:, None], long[None])
        assert isinstance(caught.value, MemoryError)
        assert compiled(long[:2, None], long[None, :3])["y"].shape == (2, 3)


def test_external_data(tmp_path: Path) -> None:
    model = parse("g (float[2, 64] x) => (float[2, 64] y)", "y = MatMul (x, w)")
    weight = np.eye(64, dtype=np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    x = np.ones((2, 64), np.float32)
    with dlc.compile(tmp_path / "m.onnx") as compiled:
        assert np.array_equal(compiled(x)["y"], x)
    content = (tmp_path / "m.onnx").read_bytes()
    with pytest.raises(ExternalDataError):
        dlc.compile(content)
    with dlc.compile(content, external_data_dir=tmp_path) as compiled:
        assert np.array_equal(compiled(x)["y"], x)


def test_the_cache_gives_an_equal_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    content = AFFINE.SerializeToString()
    first, heard = dlc.compile(content), []
    second = dlc.compile(content, progress=heard.append)
    assert "generate" not in heard and first.to_bytes() == second.to_bytes()
    assert np.array_equal(second(INPUTS)["y"], Y)
    heard.clear()
    dlc.compile(content, optimize=1, progress=heard.append)
    assert "generate" in heard


def test_the_cache_leaves_models_with_external_data_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    model = parse("g (float[2] x) => (float[2] y)", "y = Add (x, w)")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(2, np.float32), "w"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    x = np.zeros(2, np.float32)
    for weights in ([1.0, 2.0], [3.0, 4.0]):
        np.array(weights, np.float32).tofile(tmp_path / "w.bin")
        with dlc.compile(tmp_path / "m.onnx") as compiled:
            assert compiled(x)["y"].tolist() == weights


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="dlc"), dlc.compile(AFFINE, cache=False) as model:
        model(INPUTS)
    out, err = capfd.readouterr()
    assert out == "" and err == ""


def test_check(host: onnx.ModelProto) -> None:
    report = dlc.check(digits_path())
    assert report.ok and report.nodes > 5 and report.opsets and not report.hosts
    assert [host.node for host in dlc.check(host).hosts] == ["node_r"]


def test_the_report(affine: dlc.CompiledModel) -> None:
    import json

    report = affine.report()
    assert report.native_share == 1.0 and report.kernels and report.nodes == 3
    data = json.loads(report.to_json())
    assert data["model"] == "affine" and data["native_share"] == 1.0 and data["kernels"][0]["nodes"]
    assert "100% native" in str(report)

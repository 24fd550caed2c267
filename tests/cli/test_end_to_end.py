"""The commands on the demo model with the real compiler: compile, package, run, verify, measure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc.ir.ops.pointwise import Unary
from dlc.models import DIGITS_ACCURACY, digits_path
from dlc.passes.fold_batch_norm import FoldBatchNorm

DIGITS = digits_path()


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))


def test_a_package_runs_as_its_model_does(cli: Callable[..., Any], tmp_path: Path) -> None:
    package, images = tmp_path / "m.dlc", tmp_path / "x.npz"
    np.savez(images, image=np.random.default_rng(0).uniform(0, 16, (5, 1, 8, 8)).astype(np.float32))
    compiled = cli("compile", DIGITS, "-o", package, "--json")
    assert compiled.status == 0 and json.loads(compiled.out)["report"]["native_share"] == 1.0
    for source, target in ((DIGITS, "a.npz"), (package, "b.npz")):
        assert cli("run", source, "--inputs", images, "--outputs", tmp_path / target).status == 0
    with np.load(tmp_path / "a.npz") as from_model, np.load(tmp_path / "b.npz") as from_package:
        np.testing.assert_array_equal(from_model["logits"], from_package["logits"])
    verified = cli("verify", DIGITS, "--package", package, "--inputs", images, "--json")
    assert verified.status == 0 and json.loads(verified.out)["agrees"]


def test_a_look_into_a_compilation(cli: Callable[..., Any], tmp_path: Path) -> None:
    package, texts = tmp_path / "m.dlc", tmp_path / "texts"
    compile_ = ("compile", DIGITS, "-o", package)
    assert cli(*compile_).status == 0
    ran = cli(*compile_, "--print-passes", "--timings", "--skip", "fold-batch-norm", "--dump-ir", texts)
    assert ran.status == 0 and "fold-scale " in ran.out and "fold-batch-norm" not in ran.out
    assert "ms  pass canonicalize" in ran.out and "ms  generate" in ran.out
    names = sorted(path.name for path in texts.iterdir())
    assert names[:3] == ["00-import.ir", "01-dead-code.ir", "02-constant-folding.ir"]
    assert names[-3:] == ["fusion.txt", "module.ll", "program.txt"]
    last = [name for name in names if name.endswith(".ir")][-1]
    assert "assign-layouts" in last and "BatchNorm(" in (texts / last).read_text()
    assert "define" in (texts / "module.ll").read_text() and "kernel" in (texts / "program.txt").read_text()
    assert "fused: " in (texts / "fusion.txt").read_text()
    data = json.loads(cli(*compile_, "--print-passes", "--json").out)
    assert {"pass": "cse", "numerics": "exact"} in data["passes"]
    assert cli(*compile_, "--skip", "no-such-pass").status == 2
    assert cli(*compile_, "--dump-ir", package).status == 2


def test_timings_of_the_cache(cli: Callable[..., Any], tmp_path: Path) -> None:
    """What comes from the cache has no passes to time."""
    for words in ("ms  pass cse", "ms  cache"):
        assert words in cli("compile", DIGITS, "-o", tmp_path / "m.dlc", "--timings").out


def test_a_package_verifies_itself(cli: Callable[..., Any], tmp_path: Path) -> None:
    package, plain = tmp_path / "m.dlc", tmp_path / "plain.dlc"
    assert cli("compile", DIGITS, "-o", package).status == 0
    ran = cli("verify", package)
    assert ran.status == 0 and "m.dlc agrees with its self-test" in ran.out and "bit for bit" in ran.out
    assert cli("compile", DIGITS, "-o", plain, "--no-self-test").status == 0
    assert cli("verify", plain).status == 3
    for wrong in (("--bisect",), ("--package", package), ("--against", "reference")):
        assert cli("verify", package, *wrong).status == 2
    images = tmp_path / "x.npz"
    np.savez(images, image=np.ones((2, 1, 8, 8), np.float32))
    assert cli("run", package, "--inputs", images, "--outputs", tmp_path / "y.npz").status == 0
    stored = ("--inputs", images, "--against", tmp_path / "y.npz")
    assert cli("verify", package, *stored).status == 0


def test_bisect(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ran = cli("verify", DIGITS, "--bisect")
    assert ran.status == 0 and "bisection of digits.onnx: no difference" in ran.out
    assert "comparing: threads" in ran.err
    apply = FoldBatchNorm.apply

    def wrong(self: FoldBatchNorm, graph: Any) -> Any:
        for node in graph.nodes:
            if node.op == Unary("relu"):
                node.op = Unary("abs")
        return apply(self, graph)

    monkeypatch.setattr(FoldBatchNorm, "apply", wrong)
    ran = cli("verify", DIGITS, "--bisect", "--no-cache", "--json")
    culprit = json.loads(ran.out)["verifications"][0]["bisection"]["culprit"]
    assert ran.status == 1 and culprit["level"] == "pass" and culprit["pass"] == "fold-batch-norm"


@pytest.mark.parametrize("level", [0, 2])
def test_verify(cli: Callable[..., Any], level: int) -> None:
    ran = cli("verify", DIGITS, "-O", level, "--dim", "batch=7", "--no-cache", "--json")
    (output,) = json.loads(ran.out)["verifications"][0]["outputs"]
    assert ran.status == 0 and output["shape"] == [7, 10] and output["ours_to_float64"] < 1e-5


def test_check(cli: Callable[..., Any]) -> None:
    assert cli("check", DIGITS, "--strict").status == 0


def test_demo(cli: Callable[..., Any]) -> None:
    ran = cli("demo", "--seconds", "0.01", "--json")
    data = json.loads(ran.out)
    assert ran.status == 0 and data["accuracy"] == pytest.approx(DIGITS_ACCURACY)
    engines = {engine["engine"]: engine for engine in data["bench"]["cases"][0]["engines"]}
    assert engines["dlc"]["error"] is None and engines["onnxruntime"]["agrees"] is True

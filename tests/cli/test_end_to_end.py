"""The commands on the demo model with the real compiler: compile, package, run, verify, measure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc.models import DIGITS_ACCURACY, digits_path

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

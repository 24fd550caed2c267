"""The table of models says what its records say, and its verifier finds a wrong answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import dlc
from tests.api.small_models import AFFINE, affine_inputs, affine_outputs
from tests.models_table import roundings
from tests.models_table.table import PATH, document
from tests.models_table.verifying import records, verify_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with inputs of two batches."""
    onnx.save(AFFINE, tmp_path / "model.onnx")
    (tmp_path / "meta.json").write_text(json.dumps({"family": "affine", "exporter": "by hand"}))
    for number, rows in enumerate((4, 7)):
        np.savez(tmp_path / f"inputs-{number}.npz", **affine_inputs(rows))
    return tmp_path


def test_the_document_is_that_of_the_records() -> None:
    assert PATH.read_text(encoding="utf-8") == document(), "python -m tests.models_table writes it anew"


def test_all_models_agree_and_are_native() -> None:
    assert [record.name for record in records() if not record.agrees or record.hosts] == []


def test_a_model_that_agrees(folder: Path) -> None:
    record = verify_model(folder, lambda _: None)
    assert (record.family, record.exporter, record.bindings) == ("affine", "by hand", 2)
    assert (record.agrees, record.hosts, record.judges) == (True, 0, "onnxruntime")
    assert record.difference < 1e-6


def test_stored_outputs_that_differ(folder: Path) -> None:
    y, z = affine_outputs(**affine_inputs(7))
    np.savez(folder / "outputs-1.npz", y=y, z=z + np.float32(1))
    record = verify_model(folder, lambda _: None)
    assert not record.agrees and record.judges == "onnxruntime, stored outputs"
    assert record.outside == 1 and record.difference > 0.5


QUANTIZED = """
    <ir_version: 8, opset_import: ["" : 17]> quantized (float[n, 4] x) => (float[n, 4] y)
    <float scale = {0.5}, uint8 zero = {128}> {
        stored = QuantizeLinear (x, scale, zero)
        real = DequantizeLinear (stored, scale, zero)
        twice = Add (real, real)
        again = QuantizeLinear (twice, scale, zero)
        y = DequantizeLinear (again, scale, zero)
    }
"""


def test_stages_between_roundings(monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.parser.parse_model(QUANTIZED)
    values = {"x": np.arange(-6, 6, dtype=np.float32).reshape(3, 4)}
    assert roundings.roundings(model) == ["stored", "again"]
    assert roundings.compare_stages(model, values) == roundings.Stages(1.0, 1.0, True)

    def moved(compiled: dlc.CompiledModel) -> Any:
        return lambda values: {name: array + array.dtype.type(3) for name, array in compiled(values).items()}

    monkeypatch.setattr(roundings, "runner", moved)
    found = roundings.compare_stages(model, values)
    assert found == roundings.Stages(0.0, 0.0, False) and not found.agree


def test_a_model_without_roundings_has_no_stages() -> None:
    assert roundings.compare_stages(AFFINE, affine_inputs()) is None

"""The self-test of packages: recorded, repeated bit for bit, or judged by statistics."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import dlc
from dlc.api import selftest
from dlc.api.selftest import InputRecipe, draw
from dlc.errors import InputError, PackageError, UnsupportedError, VerificationError
from dlc.models import digits_path
from dlc.verify.result import Verdict

ROOT = Path(dlc.__file__).parent.parent


@pytest.fixture(scope="module")
def digits() -> dlc.CompiledModel:
    return dlc.compile(digits_path(), cache=False, threads=2)


@pytest.fixture(scope="module")
def package(digits: dlc.CompiledModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packages") / "digits.dlc"
    digits.save(path)
    return path


def compiled(signature: str, body: str) -> dlc.CompiledModel:
    text = f'<ir_version: 8, opset_import: ["" : 17]> {signature} {{ {body} }}'
    return dlc.compile(onnx.parser.parse_model(text), cache=False)


def with_test(model: dlc.CompiledModel, change: Any) -> dlc.CompiledModel:
    """The model with its self-test, as JSON data, changed."""
    model.to_bytes()
    extra = json.loads(json.dumps(model.manifest.extra))
    change(extra)
    artifact = model._artifact
    manifest = dataclasses.replace(artifact.manifest, extra=extra)
    return type(model)(dataclasses.replace(artifact, manifest=manifest))


def output(extra: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = extra["self_test"]["outputs"][0]
    return record


def test_a_package_repeats_its_test(digits: dlc.CompiledModel, package: Path) -> None:
    for source in (package, str(package), package.read_bytes(), dlc.load(package, threads=1), digits):
        result = dlc.verify(source)
        assert result and result.against == "its self-test" and result.exact is None
        assert any("bit for bit" in note for note in result.notes)
    assert "digits.dlc agrees with its self-test" in str(dlc.verify(package))


def test_neither_the_model_nor_another_engine_is_needed(package: Path) -> None:
    code = (
        "import sys, dlc\n"
        "assert dlc.verify(sys.argv[1])\n"
        "sys.exit(', '.join({'onnx', 'onnxruntime', 'torch'} & set(sys.modules)) or None)"
    )
    command = [sys.executable, "-c", code, str(package)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0 and done.stderr == ""


def test_the_same_inputs_everywhere() -> None:
    """The numbers follow from integer arithmetic alone: no version of NumPy and no machine changes them."""
    x = draw(InputRecipe("x", "f32", (2, 2), -1.0, 1.0), seed=0)
    assert x.dtype == np.float32 and x.shape == (2, 2)
    assert x.reshape(-1).tolist() == [float(np.float32(2 * unit(b"x", 0, i) - 1)) for i in (1, 2, 3, 4)]
    assert not np.array_equal(x, draw(InputRecipe("x", "f32", (2, 2), -1.0, 1.0), seed=1))
    assert not np.array_equal(x, draw(InputRecipe("y", "f32", (2, 2), -1.0, 1.0), seed=0))
    many = draw(InputRecipe("x", "f64", (10_000,), -1.0, 1.0), seed=0)
    assert abs(many.mean()) < 0.05 and -1 <= many.min() < -0.99 and 0.99 < many.max() < 1
    bytes_ = draw(InputRecipe("x", "u8", (10_000,), 0.0, 256.0), seed=0)
    assert bytes_.dtype == np.uint8 and len(np.unique(bytes_)) == 256
    assert draw(InputRecipe("m", "bool", (3,), 1.0, 2.0), seed=0).all()


def unit(name: bytes, seed: int, place: int) -> float:
    """The number of [0, 1) at `place`, counted from 1: splitmix64 in Python's integers."""
    mask = (1 << 64) - 1
    x = (place + (zlib.crc32(name) | seed << 32)) * 0x9E3779B97F4A7C15 & mask
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
    return ((x ^ x >> 31) >> 11) * 2.0**-53


def test_equal_models_have_equal_tests(digits: dlc.CompiledModel, package: Path) -> None:
    again = dlc.compile(digits_path(), cache=False, threads=2)
    assert again.to_bytes() == package.read_bytes()
    with dlc.load(package) as loaded:
        assert loaded.to_bytes() == loaded.to_bytes(self_test=False) == package.read_bytes()
    plain = dlc.load(dlc.compile(digits_path(), cache=False).to_bytes(self_test=False))
    assert selftest.stored(plain) is None and selftest.stored(again) is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record.update(rms=record["rms"] * 1.1), "RMS"),
        (lambda record: record.update(largest=record["largest"] * 0.9), "greatest magnitude"),
        (lambda record: record.update(nonfinite=1), "NaN or infinite"),
        (lambda record: record.update(shape=[1, 9], samples=[]), r"shape [1, 10], [1, 9] expected"),
        (lambda record: record["samples"][3].update(value=0.5), "elements outside the tolerance"),
    ],
)
def test_other_results_are_found(digits: dlc.CompiledModel, change: Any, words: str) -> None:
    def spoil(extra: dict[str, Any]) -> None:
        output(extra)["digests"]["native"] = "0" * 64
        change(output(extra))

    result = dlc.verify(with_test(digits, spoil))
    assert not result and words in str(result) and "although the same code made them" in str(result)
    with pytest.raises(VerificationError):
        result.raise_for_difference()


def test_other_code_is_judged_by_the_tolerance(digits: dlc.CompiledModel) -> None:
    def rename(extra: dict[str, Any]) -> None:
        record = output(extra)
        record["digests"] = {"another": record["digests"]["native"]}
        record["rms"] *= 1 + 1e-5
        record["samples"][0]["value"] += 1e-5

    result = dlc.verify(with_test(digits, rename))
    assert result and result.outputs[0].verdict is Verdict.WITHIN_TOLERANCE
    assert "other code made them" in str(result)


@pytest.mark.parametrize(
    "change",
    [
        lambda extra: extra["self_test"].update(seed="0"),
        lambda extra: extra["self_test"].pop("outputs"),
        lambda extra: extra["self_test"]["inputs"][0].update(name="other"),
        lambda extra: extra["self_test"]["inputs"][0].update(shape=[1 << 30, 1, 8, 8]),
        lambda extra: extra["self_test"]["inputs"][0].update(shape=[-1, 1, 8, 8]),
        lambda extra: extra["self_test"]["inputs"][0].update(dtype="f64"),
        lambda extra: output(extra)["samples"][0].update(index=10),
        lambda extra: output(extra)["samples"][0].update(index=-1),
        lambda extra: extra.update(self_test=3),
        lambda extra: (output(extra).update(digests={}), extra.update(numerics={"coarsest": "f33"})),
    ],
)
def test_malformed_tests_are_refused(digits: dlc.CompiledModel, change: Any) -> None:
    with pytest.raises(PackageError):
        dlc.verify(with_test(digits, change))


def test_packages_without_a_test() -> None:
    model = compiled("g (float[3] x) => (float[3] y)", "y = Neg (x)")
    plain = dlc.load(model.to_bytes(self_test=False))
    with pytest.raises(UnsupportedError, match="holds no self-test"):
        dlc.verify(plain)


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        ("g (float[5, 2] t, int64[n] i) => (float[n, 2] y)", "y = Gather (t, i)"),
        ("g (float[1, 2] t, int64[n] i) => (float[n, 2] y)", "y = Gather (t, i)"),  # only 0 is an index
        ("g (float[a, b] x, float[b, c] y) => (float[a, c] z)", "z = MatMul (x, y)"),
        ("g (float[n, 3, n, n] x) => (float[n, 3, n, n] y)", "y = Softmax (x)"),
        ("g (uint8[n, 7] x) => (float[n, 7] y)", "y = Cast <to = 1> (x)"),
        ("g (bool[n] m, double[n] x) => (double[n] y)", "n = Neg (x)  y = Where (m, x, n)"),
        ("g (float x) => (float y)", "y = Exp (x)"),
        ("g (float[0, 3] x) => (float[0, 3] y)", "y = Exp (x)"),
        ("g (float[n] x) => (float[n] y)", "l = Log (x)  y = Identity (l)"),  # NaN where x < 0
        ("g (int64[n] x) => (int64[n] y, bool[n] z)", "y = Neg (x)  z = Equal (x, y)"),
    ],
    ids=str,
)
def test_inputs_are_found_for(signature: str, body: str) -> None:
    with compiled(signature, body) as model:
        assert dlc.verify(dlc.load(model.to_bytes()))


def test_a_hinted_minimum_is_used(tmp_path: Path) -> None:
    model = dlc.compile(digits_path(), shapes={"batch": (3, 8, 64)}, cache=False)
    model.to_bytes()
    test = selftest.stored(model)
    assert test is not None and test.inputs[0].shape == (3, 1, 8, 8)


def test_stored_outputs(package: Path, tmp_path: Path, digits: dlc.CompiledModel) -> None:
    x = np.random.default_rng(0).uniform(0, 16, (2, 1, 8, 8)).astype(np.float32)
    y = digits(x)["logits"]
    np.savez(tmp_path / "x.npz", image=x)
    np.savez(tmp_path / "y.npz", logits=y)
    assert dlc.verify(package, inputs=tmp_path / "x.npz", against=tmp_path / "y.npz")
    assert dlc.verify(package, inputs={"image": x}, against={"logits": y})
    assert not dlc.verify(package, inputs={"image": x}, against={"logits": y + 1})
    for options in ({"inputs": {"image": x}}, {"against": {"logits": y}}):
        with pytest.raises(InputError, match="with stored outputs on stored inputs"):
            dlc.verify(package, **options)  # type: ignore[arg-type]


def test_code_for_another_machine(digits: dlc.CompiledModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be compiled and saved, but is not run, and gets no test."""
    from dlc.api import model as api
    from dlc.target.cpu import native

    lesser = dataclasses.replace(native(), features=frozenset({"avx2"}))
    monkeypatch.setattr(api, "native", lambda: lesser)
    foreign = dlc.compile(digits_path(), cache=False)
    with pytest.raises(UnsupportedError, match="no code for this machine") as caught:
        foreign(np.zeros((1, 1, 8, 8), np.float32))
    assert caught.value.code == "unsupported/target"
    foreign.to_bytes()
    assert "self_test" not in foreign.manifest.extra

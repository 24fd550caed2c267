"""Each command once on the demo model, as text and as JSON, and its own ways to fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dlc.limits import Limits
from dlc.models import digits_path

DIGITS = digits_path()


def test_compile(cli: Callable[..., Any], compiler: Any, tmp_path: Path) -> None:
    package = tmp_path / "m.dlc"
    given = "--target x86-64-v3 --target x86-64-v4 --dim batch=1,8,64 -O 3 --accuracy strict --strict"
    more = "--low-memory --no-cache --limit nodes=77 --json"
    ran = cli("compile", DIGITS, "-o", package, *given.split(), *more.split())
    assert ran.status == 0 and package.is_file()
    assert json.loads(ran.out)["bytes"] == package.stat().st_size
    assert json.loads(ran.out)["report"] == {"kernels": 3}
    options = compiler.made[0].options
    assert callable(options.pop("progress"))
    assert options == {
        "target": ("x86-64-v3", "x86-64-v4"),
        "shapes": {"batch": (1, 8, 64)},
        "optimize": 3,
        "precision": "model",
        "accuracy": "strict",
        "strict": True,
        "memory": "low",
        "cache": False,
        "debug_codegen": False,
        "tune": False,
        "isolate": False,
        "external_data_dir": None,
        "limits": Limits(nodes=77),
    }
    text = cli("compile", DIGITS, "-o", package, "--report", tmp_path / "r.json", "--no-self-test")
    assert compiler.self_tests == [True, False]
    assert json.loads((tmp_path / "r.json").read_text()) == {"kernels": 3}
    assert "conv + norm + relu" in text.out and "m.dlc: 0.2 MiB, compiled in" in text.out
    assert compiler.made[1].options["target"] == "native"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dim", "batch"),
        ("--dim", "=3"),
        ("--dim", "batch=two"),
        ("--dim", "batch=-1"),
        ("--dim", "batch=" + "9" * 5000),
        ("--limit", "elephants=1"),
        ("--limit", "nodes=0"),
        ("--limit", "nodes"),
        ("-O", "4"),
        ("--precision", "int3"),
        ("--threads", "0"),
    ],
)
def test_unfit_options(cli: Callable[..., Any], compiler: Any, arguments: tuple[str, ...]) -> None:
    assert cli("run", DIGITS, *arguments).status == 2 and not compiler.made


def test_run(cli: Callable[..., Any], compiler: Any, tmp_path: Path) -> None:
    image = np.random.default_rng(0).uniform(0, 16, (2, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", image=image)
    ran = cli("run", DIGITS, "--inputs", tmp_path / "x.npz", "--outputs", tmp_path / "y.npz", "--threads", 2)
    assert ran.status == 0 and ran.out.startswith("logits: float32[2, 10], ")
    assert compiler.made[0].options["threads"] == 2
    with np.load(tmp_path / "y.npz") as stored:
        np.testing.assert_array_equal(stored["logits"], compiler.made[0]({"image": image})[0])
    random = ("run", DIGITS, "--dim", "batch=3", "--json", "--random")
    by_seed = [json.loads(cli(*random, seed).out) for seed in (1, 1, 2)]
    assert by_seed[0] == by_seed[1] != by_seed[2] and by_seed[0]["outputs"][0]["shape"] == [3, 10]
    assert cli("run", DIGITS, "--outputs", tmp_path / "y.txt").status == 2


def test_run_reports_nan_and_inf(cli: Callable[..., Any], compiler: Any) -> None:
    def spoil(array: np.ndarray) -> np.ndarray:
        array[0, :3] = np.nan, np.inf, -np.inf
        return array

    compiler.fault = spoil
    assert ", 1 nan, 2 inf" in cli("run", DIGITS).out


def test_verify(cli: Callable[..., Any], compiler: Any) -> None:
    ran = cli("verify", DIGITS, "--dim", "batch=2")
    assert ran.status == 0 and "digits.onnx agrees with onnxruntime" in ran.out
    compiler.fault = lambda array: array * np.float32(1.01)
    ran = cli("verify", DIGITS, "--against", "reference", "--seed", 3, "--json")
    data = json.loads(ran.out)
    assert ran.status == 1 and data["agrees"] is False
    assert data["verifications"][0]["outputs"][0]["mismatched"] == 10
    assert cli("verify", DIGITS, "--rtol", "0.1", "--no-float64").status == 0
    assert cli("verify", DIGITS, "--against", "abacus").status == 2


def test_verify_with_several_inputs_and_a_package(
    cli: Callable[..., Any], compiler: Any, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", image=np.ones((1, 1, 8, 8), np.float32))
    package = tmp_path / "m.dlc"
    package.write_bytes(DIGITS.read_bytes())
    given = ["--inputs", tmp_path / "a.npz", "--inputs", tmp_path / "b.npz"]
    ran = cli("verify", DIGITS, "--package", package, *given, "--json")
    assert ran.status == 0 and len(json.loads(ran.out)["verifications"]) == 2
    assert [made.source for made in compiler.made] == [package]


def test_check(cli: Callable[..., Any], tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.onnx"
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    nodes = [helper.make_node("NoSuchOperator", ["x"], ["y"], name="there\x1b[31m", domain="nowhere")]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:])
    onnx.save(helper.make_model(graph, opset_imports=imports), unknown)
    ran = cli("check", unknown, "--json")
    (finding,) = json.loads(ran.out)["findings"]
    assert ran.status == 3 and finding["operator"] == "NoSuchOperator" and finding["domain"] == "nowhere"
    ran = cli("check", unknown)
    assert ran.status == 3 and "NoSuchOperator" in ran.out and "\x1b" not in ran.out
    (tmp_path / "broken.onnx").write_bytes(b"\x00\x01\x02")
    assert cli("check", tmp_path / "broken.onnx").status == 2
    assert cli("check", DIGITS, "--limit", "nodes=3").status == 4


def test_inspect(cli: Callable[..., Any]) -> None:
    data = json.loads(cli("inspect", DIGITS, "--json").out)
    assert data["inputs"] == {"image": "f32[batch, 1, 8, 8]"} and data["opsets"] == {"": 17}
    assert data["operators"]["Conv"] == 5
    text = cli("inspect", DIGITS, "--dim", "batch=4").out
    assert "image: f32[4, 1, 8, 8]" in text and "Conv: 5" in text


STAGES = {
    "import": ("BatchNorm", "%pool = Pool("),
    "optimized": ("Relayout", "%pool = Pool("),
    "kernels": ("kernel conv", "kernel pool {"),
    "program": ("program {", "step "),
    "llvm": ("define void @k0_", "_pool(ptr"),
    "asm": ("dlc_run:", "_pool:"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_inspect_stages(cli: Callable[..., Any], stage: str) -> None:
    whole, part = STAGES[stage]
    text = json.loads(cli("inspect", DIGITS, "--stage", stage, "--json").out)["text"]
    assert whole in text and cli("inspect", DIGITS, "--stage", stage).out.rstrip("\n")
    found = json.loads(cli("inspect", DIGITS, "--stage", stage, "--node", "pool/MaxPool", "--json").out)
    assert part in found["text"] and whole not in found["text"] and found["node"] == "pool/MaxPool"
    ran = cli("inspect", DIGITS, "--stage", stage, "--node", "nowhere")
    assert ran.status == 2 and "no" in ran.err and ran.out == ""


def test_inspect_follows_the_options(cli: Callable[..., Any]) -> None:
    skipped = cli("inspect", DIGITS, "--stage", "optimized", "--skip", "fold-batch-norm").out
    assert "BatchNorm(" in skipped and "BatchNorm(" not in cli("inspect", DIGITS, "--stage", "optimized").out
    narrow = cli("inspect", DIGITS, "--stage", "asm", "--target", "x86-64-v3").out
    assert "%zmm" not in narrow and "%ymm" in narrow
    assert cli("inspect", DIGITS, "--stage", "optimized", "--skip", "nothing").status == 2
    assert cli("inspect", DIGITS, "--node", "pool/MaxPool").status == 2


def test_inspect_packages(cli: Callable[..., Any], tmp_path: Path) -> None:
    package = tmp_path / "m.dlc"
    assert cli("compile", DIGITS, "-o", package).status == 0
    data = json.loads(cli("inspect", package, "--json").out)
    assert data["name"] == "digits" and data["self_test"] is True and "code/cpu.o" in data["members"]
    assert data["outputs"] == {"logits": "f32['batch', 10]"}
    assert "with a self-test" in cli("inspect", package).out
    assert cli("inspect", package, "--stage", "asm").status == 2


def test_ops_by_name(cli: Callable[..., Any]) -> None:
    found = json.loads(cli("ops", "--names", "--json").out)["operators"]
    conv = next(item for item in found if item["name"] == "Conv" and item["domain"] == "")
    assert conv["since"] and len(found) > 100
    text = cli("ops", "--names", "--domain", "")
    assert "Conv" in text.out and text.out.rstrip().endswith("operators")
    assert "0 operators" in cli("ops", "--domain", "nowhere").out


def test_ops_by_type(cli: Callable[..., Any]) -> None:
    ran = cli("ops", "Relu", "Conv", "Frobnicate")
    assert "N" in ran.out and "bf16" in ran.out and "dlc does not import Frobnicate" in ran.out
    data = json.loads(cli("ops", "Relu", "Frobnicate", "--json").out)
    assert data["unknown"] == ["Frobnicate"]
    assert data["operators"][0]["dtypes"]["f32"] == "native"


def test_doctor(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DLC_NUM_THREADS", "3")
    data = json.loads(cli("doctor", "--json").out)
    assert data["threads"] == 3 and data["cache"]["directory"] == str(tmp_path / "cache")
    assert data["versions"]["dlc"] and data["target"]["llvm"] and data["usable_cpus"] >= 1
    assert set(data["environment"]) >= {"DLC_CACHE_DIR", "DLC_NUM_THREADS"}
    monkeypatch.setenv("DLC_NUM_THREADS", "many")
    ran = cli("doctor")
    assert ran.status == 0 and "DLC_NUM_THREADS must be" in ran.out and "llvmlite" in ran.out


def test_cache(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dlc.runtime.cache import Cache

    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    cache = Cache(tmp_path / "cache")
    cache.put(Cache.key("something"), b"x" * 100)
    assert json.loads(cli("cache", "info", "--json").out)["entries"] == 1
    assert "removed 1 entries" in cli("cache", "clear").out
    assert "0 entries" in cli("cache", "info").out


def test_measured_times_are_exported_and_merged(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dlc.runtime.records import Record, Records

    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "times.sqlite"
    Records(file).put(Record("a product", "a GPU", "triton 3.9", 2, 1e-5))
    assert "took over 1" in cli("cache", "merge", file).out
    (found,) = json.loads(cli("cache", "measured", "--json").out)["records"]
    assert found == vars(Record("a product", "a GPU", "triton 3.9", 2, 1e-5))
    copy = tmp_path / "copy.sqlite"
    assert "1 record" in cli("cache", "measured", "--export", copy).out
    assert Records(copy).all() == Records(file).all()
    (tmp_path / "text").write_text("no database")
    assert cli("cache", "merge", tmp_path / "text").status == 2


def test_demo(cli: Callable[..., Any], compiler: Any) -> None:
    ran = cli("demo", "--seconds", "0.01")
    assert ran.status == 0 and "99.0% of 600 held-out digits" in ran.out
    assert "agrees with onnxruntime" in ran.out and "conv + norm + relu" in ran.out and "try next:" in ran.out
    assert "compiling digits.onnx" in ran.err

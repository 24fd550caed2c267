"""The GPU benchmark as far as it runs without a GPU: models, records, parts, trials under the interpreter."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from dlc.bench.gpu import __main__ as command
from dlc.bench.gpu.case import Case, all_cases, export
from dlc.bench.gpu.models import WORKLOADS, calibrate
from dlc.bench.gpu.records import append_record, load_records
from dlc.bench.gpu.rounds import measure, summary
from dlc.errors import InputError, UnsupportedError

#: Parameters as the papers and the publishers' own implementations count them; the last two are ours.
PARAMETERS = {
    "resnet50": 25_557_032,
    "mobilenet_v2": 3_504_872,
    "efficientnet_b0": 5_288_548,
    "convnext_t": 28_589_128,
    "vit_b16": 86_567_656,
    "bert_base": 109_482_240,
    "gpt2_prefill": 124_439_808,
    "gpt2_decode": 124_439_808,
    "llama_decode": 155_730_944,
    "unet": 205_678_468,
}
MODELS = [name for name, workload in WORKLOADS.items() if not workload.is_kernel]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))


def test_models_have_the_parameters_of_their_originals() -> None:
    with torch.device("meta"):
        modules = {name: WORKLOADS[name].build(False) for name in MODELS}
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
    assert counts == PARAMETERS


def test_weights_and_inputs_are_seeded_and_batch_norms_keep_activations_in_size() -> None:
    workload = WORKLOADS["mobilenet_v2"]
    one, other = workload.make(True), workload.make(True)
    inputs = workload.draw(3, True)
    torch.testing.assert_close(inputs, workload.draw(3, True), rtol=0, atol=0)
    results = []
    for module in (one, other):
        calibrate(module, workload.draw(4, True))
        assert not module.training
        with torch.no_grad():
            results.append(module(*inputs.values()))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert 0.05 < float(results[0].std()) < 5


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_of_the_models_has_a_function(name: str) -> None:
    from dlc.backends.triton.backend import HostKernel, generate
    from dlc.frontend.onnx.importer import import_model
    from dlc.lowering.lower import lower
    from dlc.passes.pipeline import gpu_pipeline

    workload = WORKLOADS[name]
    model = export(workload.make(True), workload.draw(2, True), workload.outputs)
    graph = import_model(model).graph
    gpu_pipeline().run(graph)
    kernels = generate(lower(graph)).kernels
    assert [kernel for kernel in kernels if isinstance(kernel, HostKernel)] == []


def test_parts_are_all_cases() -> None:
    cases = all_cases()
    assert len({case.key for case in cases}) == len(cases) == 9 + 4 * len(MODELS)
    parsed = [command._options(["--out", "x", "--part", f"{part}/6"]) for part in range(1, 7)]
    parts = [command._chosen(options) for options in parsed]
    assert sorted(c.key for part in parts for c in part) == sorted(c.key for c in cases)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for wrong in ("0/2", "3/2", "x", "1"):
        with pytest.raises(SystemExit):
            command._options(["--out", "x", "--part", wrong])
    with pytest.raises(SystemExit, match="no workload or case 'nothing'"):
        command.main(["--out", "x", "--only", "nothing"])


def test_a_trial_is_recorded_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--dry-run", "--out", str(tmp_path / "out"), "--only"]
    arguments.append("elementwise,matmul_1024,gpt2_decode/fp16/1")
    assert command.main(arguments) == 0
    table = capsys.readouterr().out
    (path,) = (tmp_path / "out").iterdir()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert path.name == "part-1-of-1.jsonl"
    assert [record["key"] for record in records] == [
        "elementwise/fp16/1",
        "matmul_1024/fp16/1",
        "gpt2_decode/fp16/1",
    ]
    pointwise, product, model = records
    assert pointwise["roof"]["bytes"] == 3 * 32 * 64 * 2
    assert product["roof"] == {"operations": 2 * 32**3} and "compiled" not in product["engines"]
    assert set(model["engines"]) == {"dlc", "eager", "compiled"} and model["dlc"]["hosts"] == []
    for record in records:
        assert record["error"] is None
        assert {output["verdict"] for output in record["outputs"]} <= {
            "within tolerance",
            "as close to float64 as the other engine",
        }
        assert record["key"] in table
    monkeypatch.setattr(command, "_trial", lambda case: pytest.fail(f"{case.key} is run again"))
    assert command.main(arguments) == 0
    assert capsys.readouterr().out == table


def finished(key: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "engines": {"dlc": {"median": 1e-3}}, "error": None, **more}


def test_a_process_that_dies_or_takes_too_long_leaves_what_it_has_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(arguments: list[str], *, timeout: float, **more: Any) -> Any:
        key = arguments[arguments.index("--only") + 1]
        record = Path(arguments[arguments.index("--record") + 1])
        if key.startswith("softmax"):
            return subprocess.CompletedProcess(arguments, 139)
        record.write_text(json.dumps(finished(key)))
        if key.startswith("layer_norm"):
            raise subprocess.TimeoutExpired(arguments, timeout)
        return subprocess.CompletedProcess(arguments, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(command, "_require_gpu", lambda: None)
    arguments = ["--out", str(tmp_path), "--limit", "500", "--only"]
    assert command.main([*arguments, "elementwise,softmax,layer_norm"]) == 1
    # It had less than the whole time: the next call tries it first.
    assert "not run yet: layer_norm/fp16/1" in capsys.readouterr().out
    records = load_records(tmp_path)
    assert set(records) == {"elementwise/fp16/1", "softmax/fp16/1"}
    assert "ended with 139" in records["softmax/fp16/1"]["error"]
    assert command.main([*arguments, "elementwise,softmax,layer_norm"]) == 1
    out = capsys.readouterr().out
    assert "not run yet" not in out and "torch.compile failed" in out
    assert "took more than" in load_records(tmp_path)["layer_norm/fp16/1"]["torch_compile_error"]


def test_no_case_is_begun_without_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_require_gpu", lambda: None)
    assert command.main(["--out", str(tmp_path), "--limit", "30", "--only", "softmax"]) == 0
    assert "not run yet: softmax/fp16/1" in capsys.readouterr().out


def test_without_a_gpu_the_way_out_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str) -> Any:
        raise UnsupportedError("this machine has no CUDA driver")

    monkeypatch.setattr("dlc.target.resolve_gpu", none)
    assert command.main(["--out", str(tmp_path)]) == 3
    assert "no CUDA driver" in capsys.readouterr().err


def test_records_are_lines_of_all_files(tmp_path: Path) -> None:
    append_record(tmp_path / "a.jsonl", finished("x", value=1))
    append_record(tmp_path / "b.jsonl", finished("x", value=2))
    append_record(tmp_path / "b.jsonl", finished("y", value=float("inf")))
    records = load_records(tmp_path)
    assert records["x"]["value"] == 2 and set(records) == {"x", "y"}
    (tmp_path / "b.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"b\.jsonl, line 1"):
        load_records(tmp_path)


def test_rounds_begin_with_another_engine_each() -> None:
    class Clock:
        tiny = False

        def seconds(self, call: Any, count: int) -> float:
            return float(call())

    order: list[str] = []

    def engine(name: str, seconds: float) -> Any:
        return lambda: order.append(name) or seconds

    times = measure(Clock(), {"dlc": engine("dlc", 1.0), "eager": engine("eager", 3.0)}, 0.1, 4)  # type: ignore[arg-type]
    assert times == {"dlc": [1.0] * 4, "eager": [3.0] * 4}
    assert order[4:] == ["dlc", "eager", "eager", "dlc"] * 2
    assert summary(times)["eager"]["dlc_is_faster"] == [3.0, 3.0, 3.0]


def test_the_keys_of_cases() -> None:
    assert Case("unet", "fp32", 8).key == "unet/fp32/8"

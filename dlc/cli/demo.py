"""`dlc demo`: the whole way with the model that ships with dlc."""

from __future__ import annotations

import time
from typing import Any

import click

import dlc
from dlc.cli.exit_codes import ExitCode
from dlc.cli.output import Output
from dlc.cli.parameters import json_option
from dlc.models import digits_path, digits_test_path

_REPORT_LINES = 12


@click.command("demo")
@click.option("--seconds", type=click.FloatRange(min=0.001), default=2.0, help="Time for each engine.")
@json_option
def command(seconds: float, output: Output) -> int:
    """Compile the shipped model, classify its held-out digits, verify the results and measure the speed."""
    import numpy as np

    from dlc.bench import BenchPlan, measure
    from dlc.verify.verification import runner, verify

    output.progress(f"compiling {digits_path().name}")
    started = time.perf_counter()
    model = dlc.compile(digits_path(), threads=1)
    compile_seconds = time.perf_counter() - started
    with np.load(digits_test_path(), allow_pickle=False) as data:
        images, labels = data["images"].astype(np.float32)[:, None], data["labels"]
    accuracy = float(np.mean(runner(model)({"image": images})["logits"].argmax(axis=1) == labels))
    output.progress("comparing with onnxruntime and float64")
    verification = verify(digits_path(), model=runner(model), inputs={"image": images}, threads=1)
    output.progress("measuring")
    report = measure(BenchPlan([digits_path()], seconds=seconds, batches=(1,)), output.progress)
    ratio = report.cases[0].ratio("onnxruntime")
    lines = [
        f"compiled in {compile_seconds:.2f} s",
        f"{accuracy:.1%} of {len(labels)} held-out digits are classified rightly",
        str(verification),
        "onnxruntime is not there to compare speed with: pip install 'dlc[demo]'"
        if ratio is None
        else f"{ratio.median:.2f} times onnxruntime's speed (quartiles {ratio.low:.2f} to {ratio.high:.2f}), "
        "one image, one thread",
        *str(model.report()).splitlines()[:_REPORT_LINES],
        "",
        "try next:",
        "  dlc compile your_model.onnx -o your_model.dlc",
        "  dlc verify your_model.onnx",
        "  dlc bench your_model.onnx",
    ]
    result: dict[str, Any] = {
        "compile_seconds": compile_seconds,
        "accuracy": accuracy,
        "verification": verification.to_dict(),
        "bench": report.to_dict(),
    }
    output.result(result, *lines)
    return ExitCode.OK if verification else ExitCode.DIFFERS

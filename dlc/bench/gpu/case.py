"""One case: a workload at one precision and batch, from the torch module to times."""

from __future__ import annotations

import copy
import io
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlc.bench.gpu.models import WORKLOADS, Workload, calibrate
from dlc.bench.gpu.place import Call, Place
from dlc.bench.gpu.rounds import ROUNDS, SECONDS, measure, summary
from dlc.bench.machine import package_versions
from dlc.verify.tolerances import Work
from dlc.verify.verification import judge

#: The operator set of the exported models: the newest that all versions of torch's tracing exporter know.
OPSET = 17
#: Images of a batch that batch norms get their statistics from.
_CALIBRATION = 4
#: Bytes that are copied to measure the bandwidth.
_COPIED = 1 << 30

Record = dict[str, Any]
Progress = Callable[[Record], None]


@dataclass(frozen=True)
class Case:
    """What one record is about. `precision` is "fp32" or "fp16"."""

    workload: str
    precision: str
    batch: int

    @property
    def key(self) -> str:
        """What identifies the record."""
        return f"{self.workload}/{self.precision}/{self.batch}"


def all_cases() -> list[Case]:
    """Every case, single kernels first, then models with what matters most first."""
    kernels = [Case(w.name, "fp16", 1) for w in WORKLOADS.values() if w.is_kernel]
    models = [name for name, workload in WORKLOADS.items() if not workload.is_kernel]
    settings = (("fp16", 1), ("fp16", 8), ("fp32", 1), ("fp32", 8))
    return kernels + [Case(name, *setting) for setting in settings for name in models]


def run_case(case: Case, place: Place, progress: Progress, trial_rounds: int = 1) -> Record:
    """Measure a case. What fails is part of the record; `progress` gets it after each step.

    Outputs are judged by the table of tolerances, with the module in float64 as the exact result and eager
    torch at the same precision as the other engine.
    """
    record: Record = {
        "key": case.key,
        "workload": case.workload,
        "precision": case.precision,
        "batch": case.batch,
        "machine": place.describe(),
        "versions": package_versions(),
        "engines": {},
        "error": None,
    }
    rounds = trial_rounds if place.tiny else ROUNDS
    seconds = 0.0 if place.tiny else SECONDS
    workload = WORKLOADS[case.workload]
    with torch.no_grad():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        prepared = _Prepared(case, workload, place)
        calls: dict[str, Call] = {}
        try:
            calls["dlc"] = prepared.compile(record)
        except Exception as error:
            # Whatever goes wrong is what the benchmark has to tell.
            record["error"] = f"{type(error).__name__}: {error}"[:2000]
        calls["eager"] = prepared.eager()
        progress(record)
        if "dlc" in calls:
            try:
                record["outputs"] = prepared.verify(calls["dlc"])
            except Exception as error:
                record["error"] = f"{type(error).__name__}: {error}"[:2000]
                del calls["dlc"]
            progress(record)
        record["engines"] = summary(measure(place, calls, seconds, rounds))
        progress(record)
        if workload.operations is None:
            started = time.perf_counter()
            try:
                calls["compiled"] = prepared.compiled()
                record["torch_compile_seconds"] = time.perf_counter() - started
                record["engines"] = summary(measure(place, calls, seconds, rounds))
            except Exception as error:
                record["torch_compile_error"] = f"{type(error).__name__}: {error}"[:500]
            progress(record)
        if workload.is_kernel:
            record["roof"] = _roof(workload, prepared.inputs, place)
    return record


class _Prepared:
    """The module and its inputs on the device, and the engines' calls."""

    def __init__(self, case: Case, workload: Workload, place: Place) -> None:
        self.case, self.workload, self.place = case, workload, place
        self.module = workload.make(place.tiny).to(place.device)
        drawn = workload.draw(case.batch, place.tiny)
        self.inputs = {name: tensor.to(place.device) for name, tensor in drawn.items()}
        more = workload.draw(_CALIBRATION, place.tiny)
        calibrate(self.module, {name: tensor.to(place.device) for name, tensor in more.items()})
        self.is_half = case.precision == "fp16" and not workload.is_kernel

    def compile(self, record: Record) -> Call:
        """dlc's call."""
        started = time.perf_counter()
        model = export(self.module, self.inputs, self.workload.outputs)
        exported = time.perf_counter()
        # Kernels have the precision of their inputs.
        compiled = self.place.compile(model, "fp16" if self.is_half else "model")
        report = compiled.report()
        record["dlc"] = {
            "export_seconds": exported - started,
            "compile_seconds": time.perf_counter() - exported,
            "nodes": report.nodes,
            "launches": len(report.kernels),
            "templates": sorted({kernel.template for kernel in report.kernels}),
            "hosts": [str(host) for host in report.hosts],
        }
        call: Call = compiled.prepare(self.inputs)
        return call

    def at(self, dtype: torch.dtype) -> Call:
        """The eager module, and the inputs, in another float type."""
        module = copy.deepcopy(self.module).to(dtype)
        values = [value.to(dtype) if value.is_floating_point() else value for value in self.inputs.values()]
        return lambda: module(*values)

    def eager(self) -> Call:
        """The eager module's call at the precision of the case."""
        if self.is_half:
            return self.at(torch.float16)
        module, values = self.module, list(self.inputs.values())
        return lambda: module(*values)

    def compiled(self) -> Call:
        """The call of torch.compile, after its first."""
        module = copy.deepcopy(self.module)
        values = list(self.inputs.values())
        if self.is_half:
            module = module.half()
            values = [value.half() if value.is_floating_point() else value for value in values]
        fast = self.place.torch_compile(module)

        def call() -> Any:
            return fast(*values)

        call()
        return call

    def verify(self, ours: Call) -> list[Record]:
        """How each output of dlc's agrees, and both engines' distance to float64."""
        eager, exact = (as_list(call()) for call in (self.eager(), self.at(torch.float64)))
        widest = np.dtype(np.float16) if self.case.precision == "fp16" else None
        found = []
        for name, actual, other, best in zip(self.workload.outputs, ours(), eager, exact, strict=True):
            mine = array(actual)
            results = judge(
                name, mine, array(other).astype(mine.dtype), array(best), Work.MODEL, widest=widest
            )
            found += [
                {
                    "name": result.difference.name,
                    "verdict": result.verdict.value,
                    "problem": result.difference.problem,
                    "dlc_to_float64": result.ours_to_float64,
                    "eager_to_float64": result.theirs_to_float64,
                }
                for result in results
            ]
        return found


def as_list(results: Any) -> list[Tensor]:
    """The results of a module."""
    return list(results) if isinstance(results, tuple | list) else [results]


def array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A tensor's numbers on the host."""
    found: np.ndarray[Any, Any] = tensor.detach().cpu().numpy()
    return found


def export(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> bytes:
    """The ONNX form of a module, by torch's tracing exporter, which needs torch and onnx alone."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # It is said to go; and that what is traced is constant.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            file,  # type: ignore[arg-type]  # the tracing exporter takes files, too
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
        )
    return file.getvalue()


def _roof(workload: Workload, inputs: Mapping[str, Tensor], place: Place) -> Record:
    """What a kernel has to move or to compute, and the bandwidth of a copy now."""
    if workload.bytes is None:
        assert workload.operations is not None
        return {"operations": workload.operations(inputs)}
    source = torch.zeros(1 << 20 if place.tiny else _COPIED, dtype=torch.uint8, device=place.device)
    target = torch.empty_like(source)
    times = measure(place, {"copy": lambda: target.copy_(source)}, 0.0 if place.tiny else 0.3, 5)
    bandwidth = 2 * source.numel() / summary(times)["copy"]["median"]
    return {"bytes": workload.bytes(inputs), "copy_bytes_per_second": bandwidth}

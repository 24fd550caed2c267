"""What a compiled model costs, in numbers that do not depend on the machine or its load."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import onnx

import dlc
from dlc.api.model import PreparedModelCall
from tests.helpers.model_zoo import Model

#: The target of golden counters: one that every supported machine runs, described in full by its name.
TARGET = "x86-64-v3"


def counters(model: Model, native: dlc.CompiledModel) -> dict[str, Any]:
    """The counters of a model: of its program, and of one call at each binding."""
    report = native.report()
    templates = Counter(kernel.template for kernel in report.kernels)
    return {
        "structure": structure(model.proto()),
        "kernels": len({kernel.function for kernel in report.kernels}),
        "launches": len(report.kernels),
        "templates": dict(sorted(templates.items())),
        "host steps": len(report.hosts),
        "constant bytes": report.constant_bytes,
        "calls": [call_counters(native, model, binding) for binding in range(len(model.bindings))],
    }


def call_counters(native: dlc.CompiledModel, model: Model, binding: int) -> dict[str, int]:
    """Launches and chunks of one call, and the bytes of its arena."""
    call = native.prepare(model.feeds(binding))
    context = call._call._slot.context
    before = context.launches, context.chunks
    call()
    return {
        "launches": context.launches - before[0],
        "chunks": context.chunks - before[1],
        "arena bytes": call._call._binding.arena_bytes,
    }


def structure(model: onnx.ModelProto) -> str:
    """A digest of a model without the values of its floating-point weights, which no counter depends on."""
    plain = onnx.ModelProto.FromString(model.SerializeToString())
    plain.producer_version = ""
    for tensor in plain.graph.initializer:
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            tensor.raw_data = b""
            del tensor.float_data[:]
    return hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest()[:16]


def native_memory(call: PreparedModelCall) -> tuple[int | None, ...]:
    """Addresses and sizes of the memory that a call uses besides its arrays."""
    slot = call._call._slot
    arena = slot._arena
    return slot.context.scratch, slot.context.scratch_bytes, arena and arena.address, arena and arena.size


def python_bytes(work: Callable[[], object]) -> int:
    """The most bytes that Python and NumPy hold during `work` beyond those before."""
    work()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()

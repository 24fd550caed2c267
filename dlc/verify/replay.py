"""Packages against what they hold themselves, or stored arrays: no model and no other engine is needed."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.api.selftest import OutputRecord, digest, statistics, stored, stored_numerics
from dlc.errors import InputError, UnsupportedError, printable
from dlc.ir import dtypes
from dlc.verify.compare import Array, Difference, compare_arrays
from dlc.verify.inputs import load_inputs
from dlc.verify.result import OutputResult, Verification
from dlc.verify.tolerances import Tolerance, Work, is_float, tolerance

if TYPE_CHECKING:
    import dlc


def verify_package(
    source: str | os.PathLike[str] | bytes | dlc.CompiledModel,
    against: str | os.PathLike[str] | Mapping[str, Array],
    inputs: Mapping[str, Any] | str | os.PathLike[str] | None,
    threads: int | None,
) -> Verification:
    """Repeat the self-test of a package or compiled model, or compare it with stored outputs.

    Raises what `dlc.load` raises, InputError for inputs without outputs to compare with or the reverse, and
    UnsupportedError for a package without a self-test.
    """
    import dlc
    from dlc.verify.verification import model_label

    compiled = source if isinstance(source, dlc.CompiledModel) else dlc.load(source, threads=threads)
    label = model_label(Path(source)) if isinstance(source, str | os.PathLike) else compiled.name
    golden = isinstance(against, Mapping) or os.fspath(against).endswith(".npz")
    if inputs is None and against == "onnxruntime":  # the default, which a package has no model for
        return replay(compiled, label)
    if inputs is None or not golden:
        raise InputError(
            "a package is compared with stored outputs on stored inputs, or with its own self-test",
            hint="give both inputs and an .npz file of outputs, or neither",
            code="input/option",
        )
    expected = against if isinstance(against, Mapping) else load_inputs(os.fspath(against))
    values = inputs if isinstance(inputs, Mapping) else load_inputs(os.fspath(inputs))
    return _against_stored(compiled, label, values, expected)


def replay(model: dlc.CompiledModel, label: str) -> Verification:
    """Repeat the model's self-test.

    Outputs must be equal bit for bit where this is the code that made them; what other code gives must agree
    with the stored statistics and samples within the tolerance of a whole model.
    """
    test = stored(model)
    if test is None:
        where = ", where that GPU is," if model.target.startswith("cuda") else ""
        raise UnsupportedError(
            f"{printable(label)} holds no self-test",
            hint=f"save the model{where} with dlc.compile(...).save(path), or compare it with its ONNX "
            "model: dlc verify MODEL --package PACKAGE",
        )
    outputs = model(test.arrays())
    notes = [f"self-test of the package, seed {test.seed}; neither the model nor another engine was needed"]
    results, different = [], 0
    for record, array in zip(test.outputs, outputs, strict=True):
        known = record.digests.get(model.target)
        same = known is not None and known == digest(array) and array.shape == record.shape
        if not same:
            different += 1
            why = "other code made them" if known is None else "although the same code made them"
            notes.append(f"{printable(record.name)} is not equal to the stored outputs bit for bit, {why}")
        found = _equal(record, array) if same else _by_statistics(record, array, allowed(model, array.dtype))
        results.append(OutputResult(found))
    if not different:
        notes.append("all outputs are equal to the stored ones bit for bit")
    return Verification(label, "its self-test", None, tuple(results), tuple(notes))


def allowed(model: dlc.CompiledModel, dtype: np.dtype[Any]) -> Tolerance:
    """The tolerance for outputs of `dtype`, by what the package says of the model's numbers."""
    numerics = stored_numerics(model)
    work = Work.QUANTIZED_MODEL if numerics.quantized else Work.MODEL
    coarsest = dtypes.from_text(numerics.coarsest).numpy
    choices = (tolerance(kind, work) for kind in ((dtype, coarsest) if is_float(dtype) else (dtype,)))
    return max(choices, key=lambda choice: choice.rtol)


def _against_stored(
    model: dlc.CompiledModel, label: str, values: Mapping[str, Any], expected: Mapping[str, Array]
) -> Verification:
    outputs = model(dict(values))
    results = [
        OutputResult(compare_arrays(name, outputs[name], array, allowed(model, array.dtype)))
        for name, array in expected.items()
    ]
    return Verification(label, "stored outputs", None, tuple(results))


def _equal(record: OutputRecord, array: Array) -> Difference:
    """No difference at all."""
    return _difference(record, array, Tolerance(0.0, 0.0, 0.0), None)


def _by_statistics(record: OutputRecord, array: Array, accepted: Tolerance) -> Difference:
    """The difference of what was stored of an output: its statistics first, then the samples."""
    if array.shape != record.shape:
        problem = f"shape {list(array.shape)}, {list(record.shape)} expected"
        return _difference(record, array, accepted, problem)
    rms, largest, nonfinite = statistics(array)
    margin = accepted.rtol + accepted.atol
    for what, got, wanted in (("RMS", rms, record.rms), ("greatest magnitude", largest, record.largest)):
        if not math.isclose(got, wanted, rel_tol=margin, abs_tol=accepted.atol * record.rms):
            return _difference(record, array, accepted, f"{what} {got:.9g}, {wanted:.9g} expected")
    if nonfinite != record.nonfinite:
        problem = f"{nonfinite} elements are NaN or infinite, {record.nonfinite} expected"
        return _difference(record, array, accepted, problem)
    actual = array.reshape(-1)[[sample.index for sample in record.samples]].astype(np.float64)
    wanted_samples = np.array([sample.value for sample in record.samples])
    absolute = Tolerance(accepted.rtol, accepted.atol * record.rms, 0.0, absolute=True)
    return compare_arrays(record.name, actual, wanted_samples, absolute)


def _difference(record: OutputRecord, array: Array, accepted: Tolerance, problem: str | None) -> Difference:
    return Difference(
        name=record.name,
        dtype=str(array.dtype),
        shape=array.shape,
        elements=array.size,
        mismatched=0 if problem is None else array.size,
        nonfinite=0,
        max_abs=0.0 if problem is None else math.inf,
        max_rel=0.0 if problem is None else math.inf,
        max_ulp=0,
        rms=record.rms,
        worst=None,
        worst_values=None,
        tolerance=accepted,
        problem=problem,
    )

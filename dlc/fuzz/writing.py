"""A finding as files: the model, its inputs, and how to see the fault again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.errors import ResourceError, printable
from dlc.fuzz.case import Case
from dlc.verify.isolate import Ending, isolated

if TYPE_CHECKING:
    from dlc.fuzz.campaign import Finding

#: Time for making a finding small.
_REDUCTION_SECONDS = 120.0


def write_finding(
    finding: Finding, make: Callable[[], Case | bytes], out: Path | None, reduce: bool
) -> Finding:
    """`finding` with its operators, and with its files under `out`: model.onnx, inputs.npz, finding.txt.

    The case is made again in a child process, as the one that showed the fault may be dead.
    """
    kind = "graph" if "--graphs" in finding.reproduce else "bytes"
    folder = None if out is None else out / f"{kind}-{finding.index}"

    def child() -> list[str]:
        case = make()
        if folder is not None:
            _write(case, folder, finding)
            if reduce and isinstance(case, Case):
                _reduce(folder, case)
        return [] if isinstance(case, bytes) else list(case.operators)

    outcome = isolated(child, seconds=2 * _REDUCTION_SECONDS)
    if outcome.ending is not Ending.RETURNED:
        if folder is not None and not folder.is_dir():
            raise ResourceError(f"the finding cannot be written: {outcome}")
        return dataclasses.replace(finding, folder=folder)
    finding = dataclasses.replace(finding, operators=tuple(outcome.value), folder=folder)
    return finding


def _write(case: Case | bytes, folder: Path, finding: Finding) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    commands = [finding.reproduce]
    if isinstance(case, bytes):
        (folder / "model.onnx").write_bytes(case)
        commands.append("dlc run model.onnx --random 0")
    else:
        (folder / "model.onnx").write_bytes(case.model.SerializeToString())
        inputs: dict[str, Any] = dict(case.inputs)
        np.savez(folder / "inputs.npz", **inputs)
        for number, other in enumerate(case.others):
            others: dict[str, Any] = dict(other)
            np.savez(folder / f"inputs-{number + 1}.npz", **others)
        level, threads = case.options["optimize"], case.options["threads"]
        debug = " --debug-codegen" if case.options["debug_codegen"] else ""
        options = f"-O {level} --threads {threads} --no-cache{debug}"
        commands.append(f"dlc verify model.onnx --inputs inputs.npz {options}")
    lines = [printable(str(finding.symptom), 4000), *commands, json.dumps(finding.to_dict())]
    (folder / "finding.txt").write_text("\n".join(lines) + "\n")


def _reduce(folder: Path, case: Case) -> None:
    """Put a smaller model with the same symptom beside the one found, as small.onnx and small.npz."""
    from dlc.errors import Error
    from dlc.verify.reduce import reduce

    for inputs in (case.inputs, *case.others):
        try:
            reduced = reduce(case.model, inputs=inputs, seconds=_REDUCTION_SECONDS, **case.options)
        except Error:  # these inputs do not show it
            continue
        reduced.save(folder / "small.onnx")
        return

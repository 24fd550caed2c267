"""`dlc run`: one call of a model, on given or random inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dlc.cli.exit_codes import ExitCode
from dlc.cli.models import is_package, model_inputs, open_model
from dlc.cli.output import Output
from dlc.cli.parameters import (
    EXISTING_FILE,
    compile_options,
    dim_option,
    json_option,
    target_option,
    threads_option,
)
from dlc.errors import InputError, printable
from dlc.options import Options, ShapeSpec

if TYPE_CHECKING:
    from dlc.verify.compare import Array


@click.command("run")
@click.argument("model", type=EXISTING_FILE)
@click.option("--inputs", type=EXISTING_FILE, help="An .npz file with the inputs by name.")
@click.option(
    "--random", "seed", type=click.IntRange(min=0), default=0, help="Seed of random inputs, without --inputs."
)
@click.option(
    "--outputs",
    "stored",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the outputs to this .npz file.",
)
@click.option(
    "--trap",
    "trapped",
    type=click.Choice(("nan", "inf")),
    help="Instead, run step by step and name the first node that makes a NaN or infinity which its operands "
    "did not hold; exit with 1 if there is one.",
)
@target_option
@dim_option
@threads_option
@compile_options
@json_option
def command(
    model: Path,
    inputs: Path | None,
    seed: int,
    stored: Path | None,
    trapped: str | None,
    target: str,
    dims: Mapping[str, ShapeSpec],
    threads: int | None,
    options: Mapping[str, Any],
    output: Output,
) -> int:
    """Run MODEL (an ONNX file or a package) once and describe its outputs."""
    if stored is not None and stored.suffix != ".npz":
        raise InputError("outputs are written to an .npz file", code="input/option")
    if trapped is not None and (is_package(model) or stored is not None):
        raise click.UsageError("--trap takes an ONNX model and writes no outputs")
    options = {"target": target, **options}
    compiled = open_model(model, dims, threads, options)
    values = model_inputs(model, compiled, dims, inputs, seed)
    if trapped is not None:
        return _trap(model, trapped, values, dims, options, output)
    results = compiled(values)
    arrays = spread({spec.name: results[index] for index, spec in enumerate(compiled.outputs)})
    if stored is not None:
        _save(stored, arrays)
    described = [describe(name, value) for name, value in arrays.items()]
    output.result({"outputs": described}, *(_line(item) for item in described))
    return ExitCode.OK


def spread(values: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs, those of a sequence ``s`` one by one as ``s[0]``, ``s[1]`` and so on; optionals without a
    value are left out.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list):
            found |= spread({f"{name}[{index}]": part for index, part in enumerate(value)})
        elif value is not None:
            found[name] = value
    return found


def _trap(
    model: Path,
    kind: str,
    values: Mapping[str, Array],
    dims: Mapping[str, ShapeSpec],
    options: Mapping[str, Any],
    output: Output,
) -> int:
    """Run under a trap for `kind`."""
    from dlc.verify.trap import trap

    report = trap(model, values, kind, Options(shapes=dims, **options))
    output.result(report.to_dict(), str(report))
    return ExitCode.OK if report else ExitCode.DIFFERS


def describe(name: str, array: Any) -> dict[str, Any]:
    """Dtype, shape, and for numbers the extremes, the mean and how many are NaN or infinite."""
    import numpy as np

    if isinstance(array, dict):
        return {"name": name, "dtype": "map", "shape": [len(array)]}
    described: dict[str, Any] = {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)}
    if array.dtype.kind in "OUS" or array.size == 0:
        return described
    if array.dtype.kind == "c":
        array = np.abs(array)
    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    if finite.size:
        described |= {"min": float(finite.min()), "mean": float(finite.mean()), "max": float(finite.max())}
    return described | {"nan": int(np.isnan(values).sum()), "inf": int(np.isinf(values).sum())}


def _line(item: Mapping[str, Any]) -> str:
    line = f"{printable(item['name'])}: {item['dtype']}{item['shape']}"
    if "mean" in item:
        line += f", {item['min']:.6g} .. {item['max']:.6g}, mean {item['mean']:.6g}"
    for kind in ("nan", "inf"):
        if item.get(kind):
            line += f", {item[kind]} {kind}"
    return line


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an .npz; dtypes that NumPy's format does not know are widened to float32 or int8, exactly.

    An output whose name would be a path out of a folder is stored as `output_N`.
    """
    import zipfile

    import numpy as np

    from dlc.verify.tolerances import is_float

    with zipfile.ZipFile(path, "w") as archive:
        for index, (name, array) in enumerate(arrays.items()):
            if name.startswith(("/", "\\")) or ".." in name or not name.isprintable():
                name = f"output_{index}"
            if array.dtype.kind == "V":
                array = array.astype(np.float32 if is_float(array.dtype) else np.int8)
            elif array.dtype.kind == "O":
                array = array.astype(np.str_)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)

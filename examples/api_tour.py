"""The Python API on a trained model: compile, call, verify, save, load, prepare.

    python examples/api_tour.py                 the digit classifier that ships with dlc
    python examples/api_tour.py MODEL.onnx      a model of yours, on random inputs
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import dlc
from dlc.models import digits_path
from dlc.verify.inputs import InputSpec, random_inputs

SHIPPED = digits_path()


def main(path: Path) -> None:
    """Walk through the API with the model at `path`."""
    model = dlc.compile(path)
    print(model)
    print(model.report())

    specs = [InputSpec(spec.name, spec.dtype, spec.shape) for spec in model.inputs]
    feeds = random_inputs(specs, seed=0)
    outputs = model(feeds)
    for name, array in outputs.items():
        print(f"{name}: {array.dtype}{list(array.shape)}, largest {np.abs(array).max():.4g}")

    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "model.dlc"
        model.save(package)
        again = dlc.load(package)
        same = all(np.array_equal(a, b) for a, b in zip(outputs, again(feeds), strict=True))
        print(f"the saved model gives the same bits: {same}")

    call = model.prepare(feeds)
    call()
    print(f"a prepared call writes into the same arrays: {call() is call.outputs}")

    try:
        model({"no such input": 0})
    except dlc.InputError as error:
        print(f"errors say what to do: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED)

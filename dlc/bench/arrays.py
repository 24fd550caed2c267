"""Named arrays in a folder of .npy files, the small floats and integers of ml_dtypes included.

NumPy's format knows only NumPy's own dtypes; the others are stored as unsigned integers of the same size,
with the dtype's name in the manifest. Nothing is ever pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
#: One dictionary an array, in order: its name, its dtype's name, the name of its file.
Manifest: TypeAlias = list[dict[str, str]]


def save_arrays(folder: Path, arrays: Mapping[str, Array]) -> Manifest:
    """Write the arrays into `folder` (created if need be); the result goes to :func:`load_arrays`."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = []
    for index, (name, array) in enumerate(arrays.items()):
        file = f"{index}.npy"
        plain = array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array
        if plain.dtype.kind == "O":
            plain = plain.astype(np.str_)
        np.save(folder / file, plain, allow_pickle=False)
        manifest.append({"name": name, "dtype": array.dtype.name, "file": file})
    return manifest


def load_arrays(folder: Path, manifest: Manifest) -> dict[str, Array]:
    """The arrays that :func:`save_arrays` wrote."""
    return {entry["name"]: _load(folder / entry["file"], entry["dtype"]) for entry in manifest}


def _load(path: Path, dtype: str) -> Array:
    array: Array = np.load(path, allow_pickle=False)
    if dtype == "object":
        return array.astype(object)
    if array.dtype.name == dtype or array.dtype.kind == "U":
        return array
    import ml_dtypes

    return array.view(getattr(ml_dtypes, dtype))

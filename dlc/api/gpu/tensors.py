"""Arrays that lie on a GPU: torch's tensors, and those of other libraries by DLPack."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from dlc.api.arrays import is_tensor
from dlc.errors import InputError, printable

#: DLPack's number for memory of CUDA.
_CUDA = 2


def on_gpu(value: Any) -> Any:
    """`value` as a torch tensor if it lies on a GPU, else None.

    Raises InputError for what needs torch to be read, where that is not installed.
    """
    if isinstance(value, np.ndarray):
        return None
    if is_tensor(value):
        return value.detach() if value.is_cuda else None
    if not hasattr(value, "__dlpack_device__") or value.__dlpack_device__()[0] != _CUDA:
        return None
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "arrays on a GPU are read through torch, which is not installed",
            hint="pip install torch, or pass NumPy arrays",
            code="input/array",
        ) from error
    return torch.utils.dlpack.from_dlpack(value)


def gpu_family(values: Sequence[Any]) -> Callable[[Any], Any] | None:
    """What makes results those of the library that the first input on a GPU is of; None for torch."""
    for value in values:
        if is_tensor(value):
            return None
        library = sys.modules.get(type(value).__module__.partition(".")[0])
        if hasattr(value, "__dlpack_device__") and not isinstance(value, np.ndarray):
            found: Callable[[Any], Any] | None = getattr(library, "from_dlpack", None)
            return found
    return None


def numpy_dtype(tensor: Any, name: str) -> np.dtype[Any]:
    """NumPy's type for the elements of a torch tensor; InputError, with the input's name, if it has none."""
    text = str(tensor.dtype).removeprefix("torch.")
    found = getattr(ml_dtypes, text, None) or getattr(np, "bool_" if text == "bool" else text, None)
    if found is None:
        raise InputError(f"input {printable(name)!r} has torch's type {text}", code="input/dtype")
    dtype: np.dtype[Any] = np.dtype(found)
    return dtype


def torch_dtype(name: str) -> Any:
    """torch's type of the NumPy type called `name`; both libraries use the same names."""
    import torch

    return getattr(torch, name)


def current_stream() -> int:
    """The handle of torch's current stream on the current GPU."""
    handle: int = sys.modules["torch"].cuda.current_stream().cuda_stream
    return handle

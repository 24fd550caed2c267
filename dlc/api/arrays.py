"""What callers pass for arrays, and get back: NumPy, torch, and other libraries' arrays by DLPack."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from dlc.errors import InputError, printable

Array = np.ndarray[Any, Any]

#: Makes arrays those of a library other than NumPy, over the same memory where that library can.
Family: TypeAlias = Callable[[Array], Any]

#: torch's dtypes that NumPy has not, which ml_dtypes calls by the same names -> integers of their size.
_TORCH_BITS = {
    "bfloat16": "int16",
    "float8_e4m3fn": "int8",
    "float8_e4m3fnuz": "int8",
    "float8_e5m2": "int8",
    "float8_e5m2fnuz": "int8",
    "float8_e8m0fnu": "int8",
}


def as_array(
    name: str, value: Any, dtype: np.dtype[Any], role: str = "input"
) -> tuple[Array, Family | None]:
    """`value` as a NumPy array without a copy where possible, and the library that it is of if not NumPy.

    Python's numbers and lists of them take `dtype` where that is of the same kind. Raises InputError, which
    says the `role` and `name` of the value, for everything that is no array in this machine's memory.
    """
    if isinstance(value, np.ndarray):
        return value, None
    library = type(value).__module__.partition(".")[0]
    try:
        if library == "torch" or is_tensor(value):
            return _from_torch(f"{role} {printable(name)!r}", value), to_torch
        if isinstance(value, np.generic):
            return np.asarray(value), None
        if isinstance(value, int | float | bool | list | tuple):
            return _from_python(value, dtype), None
        if hasattr(value, "__dlpack__"):
            from dlc.api.dlpack import from_dlpack

            return from_dlpack(value), _family(value, library)
    except InputError:
        raise
    except Exception as error:  # whatever other libraries raise
        raise InputError(
            f"{role} {printable(name)!r} cannot be read: {printable(str(error))}", code="input/array"
        ) from error
    raise InputError(
        f"{role} {printable(name)!r} must be an array or tensor, not {type(value).__name__}",
        code="input/array",
    )


def _from_python(value: Any, dtype: np.dtype[Any]) -> Array:
    array = np.asarray(value)
    convertible = array.dtype.kind in "biuf" and np.can_cast(array.dtype, dtype, "same_kind")
    return array.astype(dtype) if convertible or array.size == 0 else array


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor, also of a subclass; without an import of torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _from_torch(what: str, tensor: Any) -> Array:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise InputError(
            f"{what} must be an array or tensor, not {type(tensor).__name__}",
            code="input/array",
        )
    if tensor.requires_grad:
        raise InputError(
            f"{what} requires gradients", hint="pass tensor.detach()", code="input/array"
        )
    if tensor.device.type != "cpu":
        raise InputError(
            f"{what} lies on {tensor.device}", hint="pass tensor.cpu()", code="input/array"
        )
    bits = _TORCH_BITS.get(str(tensor.dtype).removeprefix("torch."))
    if bits is None:
        array: Array = tensor.numpy()
        return array
    import ml_dtypes

    array = tensor.view(getattr(torch, bits)).numpy()
    return array.view(getattr(ml_dtypes, str(tensor.dtype).removeprefix("torch.")))


def to_torch(array: Array) -> Any:
    """A torch tensor over the array's memory; the array itself if torch has not its dtype, such as int4."""
    import torch

    bits = _TORCH_BITS.get(array.dtype.name)
    if bits is None:
        return torch.from_numpy(array) if array.dtype.isbuiltin == 1 else array
    return torch.from_numpy(array.view(bits)).view(getattr(torch, array.dtype.name))


def _family(value: Any, library: str) -> Family | None:
    """How `value`'s library makes arrays of what has DLPack; None, that is NumPy, if it does not say.

    That is `from_dlpack` of the namespace that the array API standard asks for, or of the library itself.
    What DLPack or the library has no type for stays an array of NumPy.
    """
    if hasattr(value, "__array_namespace__"):
        found = getattr(value.__array_namespace__(), "from_dlpack", None)
    else:
        found = getattr(sys.modules.get(library), "from_dlpack", None)
    if found is None:
        return None

    def convert(array: Array) -> Any:
        from dlc.api.dlpack import exporter

        try:
            return found(exporter(array))
        except BufferError:
            return array

    return convert


def common_family(families: Iterable[Family | None]) -> Family | None:
    """Of which library the outputs are when the inputs are of these: torch if any is, else the first that is
    not NumPy.
    """
    found = [family for family in families if family is not None]
    return to_torch if to_torch in found else found[0] if found else None


def in_family(family: Family, result: Any) -> Any:
    """A result with arrays of `family` for its arrays of numbers; strings, maps and None stay."""
    if isinstance(result, list):
        return [in_family(family, part) for part in result]
    has_memory = isinstance(result, np.ndarray) and result.dtype.kind != "O"
    return family(result) if has_memory else result


#: A view of no bytes of an array, which has its address.
_START: Any = (ctypes.c_char * 0).from_buffer


def address(array: Array) -> int:
    """The address of an array's first element.

    By the buffer interface, a quarter of the time of `array.ctypes`, where that works: not for read-only
    arrays and for dtypes that buffers do not know.
    """
    try:
        return ctypes.addressof(_START(array))
    except (TypeError, ValueError):
        return int(array.ctypes.data)

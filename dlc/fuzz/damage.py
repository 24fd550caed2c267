"""Damaged model files: bytes changed anyhow, or fields of the message changed so that it still parses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import numpy as np

from dlc.errors import Error, InternalError
from dlc.fuzz.generate import generate
from dlc.fuzz.sampling import Chance
from dlc.limits import Limits
from dlc.verify.examine import Examination, Finished, error_symptom, stage
from dlc.verify.isolate import describe_failure

#: What a damaged model may cost, so that a case ends soon.
LIMITS = Limits(
    tensor_elements=1 << 24,
    tensor_bytes=1 << 26,
    arena_bytes=1 << 28,
    weight_bytes=1 << 28,
    folding_operations=100_000_000,
    loop_iterations=10_000,
)

#: Numbers that stand at the borders of something.
_BORDERS = (0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 1 << 31, (1 << 31) - 1, 1 << 62, (1 << 63) - 1, -(1 << 63))

#: The largest extent given to a symbolic dim when a damaged model is run.
_EXTENT = 3


def make_damaged(seed: int, index: int) -> bytes:
    """Damaged file number `index` of a seed."""
    chance = Chance(seed, index)
    source = _source(chance, seed, index)
    if chance.maybe(0.5):
        return _damage_bytes(chance, source)
    return _damage_message(chance, source)


def examine_damaged(seed: int, index: int, debug_codegen: bool = False) -> Examination:
    """Compile the damaged file and run it if that works; any error but a typed one of dlc is a fault."""
    import dlc.api

    stage("generate")
    content = make_damaged(seed, index)
    stage("compile")
    try:
        with dlc.api.compile(
            content, cache=False, limits=LIMITS, threads=1, debug_codegen=debug_codegen
        ) as model:
            stage("run")
            model(dict(_inputs(model, Chance(seed, index))))
    except InternalError as error:
        return Examination(error_symptom(describe_failure(error)), Finished.INCONCLUSIVE)
    except Error as error:
        return Examination(None, Finished.REFUSED, (error.code,))
    except BaseException as error:
        return Examination(error_symptom(describe_failure(error)), Finished.INCONCLUSIVE)
    return Examination(None, Finished.AGREES)


def _source(chance: Chance, seed: int, index: int) -> bytes:
    """The file to damage: the model that ships with dlc, or a generated one."""
    if chance.maybe(0.2):
        return resources.files("dlc.models").joinpath("digits.onnx").read_bytes()
    content: bytes = generate(seed, index).model.SerializeToString()
    return content


def _inputs(model: Any, chance: Chance) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Small arrays of the model's dtypes."""
    for spec in model.inputs:
        shape = [extent if isinstance(extent, int) else _EXTENT for extent in spec.shape]
        if int(np.prod(shape)) > 1 << 20:
            shape = [min(extent, 1) for extent in shape]
        yield spec.name, chance.array(spec.dtype, shape)


# --- bytes


def _damage_bytes(chance: Chance, source: bytes) -> bytes:
    """A few random edits of the bytes."""
    edits: list[Callable[[Chance, bytearray], None]] = [_flip, _set, _truncate, _insert, _repeat, _remove]
    content = bytearray(source)
    for _ in range(chance.between(1, 6)):
        if content:
            chance.one_of(edits)(chance, content)
    return bytes(content)


def _place(chance: Chance, content: bytearray) -> int:
    """A position: anywhere, or near the start, where the structure is."""
    most = len(content) - 1
    return chance.between(0, min(most, 200)) if chance.maybe(0.3) else chance.between(0, most)


def _flip(chance: Chance, content: bytearray) -> None:
    content[_place(chance, content)] ^= 1 << chance.between(0, 7)


def _set(chance: Chance, content: bytearray) -> None:
    content[_place(chance, content)] = chance.one_of([0, 1, 0x7F, 0x80, 0xFF])


def _truncate(chance: Chance, content: bytearray) -> None:
    del content[_place(chance, content) :]


def _insert(chance: Chance, content: bytearray) -> None:
    at = _place(chance, content)
    content[at:at] = chance.random.randbytes(chance.between(1, 12))


def _repeat(chance: Chance, content: bytearray) -> None:
    start = _place(chance, content)
    piece = content[start : start + chance.between(1, 100)]
    at = _place(chance, content)
    content[at:at] = piece * chance.between(1, 3)


def _remove(chance: Chance, content: bytearray) -> None:
    start = _place(chance, content)
    del content[start : start + chance.between(1, 20)]


# --- the message


def _damage_message(chance: Chance, source: bytes) -> bytes:
    """A few random changes of fields; the result is a readable message."""
    import onnx

    model = onnx.load_model_from_string(source)
    for _ in range(chance.between(1, 4)):
        _change(chance, model)
    content: bytes = model.SerializeToString()
    return content


def _change(chance: Chance, message: Any) -> None:
    """Change one field of a message, or of one within it."""
    fields = [(field, value) for field, value in message.ListFields()]
    if not fields:
        return
    field, value = chance.one_of(fields)
    if _is_repeated(value):
        _change_list(chance, field, value)
    elif hasattr(value, "ListFields"):
        _change(chance, value)
    elif chance.maybe(0.1):
        message.ClearField(field.name)
    else:
        _assign(message, field, _other(chance, value))


def _is_repeated(value: Any) -> bool:
    return hasattr(value, "extend") and not isinstance(value, bytes | str)


def _change_list(chance: Chance, field: Any, values: Any) -> None:
    """Drop, repeat, move or change an entry."""
    at = chance.between(0, len(values) - 1)
    is_message = hasattr(values[at], "ListFields")
    match chance.between(0, 4):
        case 0:
            del values[at]
        case 1 if is_message:
            values.add().CopyFrom(values[at])
        case 1:
            values.append(values[at])
        case 2 if is_message and len(values) > 1:
            other = chance.between(0, len(values) - 1)
            values[at].CopyFrom(type(values[at]).FromString(values[other].SerializeToString()))
        case _ if is_message:
            _change(chance, values[at])
        case _:
            try:
                values[at] = _other(chance, values[at])
            except (TypeError, ValueError):  # out of the field's range
                del values[at]


def _assign(message: Any, field: Any, value: Any) -> None:
    """Set a field; a value out of its range leaves it as it is."""
    try:
        setattr(message, field.name, value)
    except (TypeError, ValueError):
        message.ClearField(field.name)


def _other(chance: Chance, value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return chance.one_of([*_BORDERS, value + 1, value - 1, -value, value * 2])
        case float():
            return chance.one_of([0.0, -0.0, 1e38, -1.0, float("inf"), float("nan"), 1e-40, value * 2])
        case str():
            return chance.one_of(["", "x", value + value, value[:-1], "v1", "\x1b[31m'\"\n", "a" * 1000])
        case bytes():
            content = bytearray(value)
            if content:
                chance.one_of([_flip, _truncate, _insert])(chance, content)
            return bytes(content)
    return value

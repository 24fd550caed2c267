"""The options of a compilation, and the environment variables that override defaults, read in one place."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from dlc.errors import InputError, printable
from dlc.limits import Limits

#: An entry of `Options.shapes`: a fixed extent; (min, typical, max) hints of a symbol; or an input's dims.
ShapeSpec = int | tuple[int | str | None, ...]

PRECISIONS = ("model", "fp32", "tf32", "fp16", "bf16")
ACCURACIES = ("strict", "default", "fast")
MEMORIES = ("default", "low")

#: Fields that change neither the generated code nor the packed weights, and so are no part of a cache key.
_NOT_IN_KEY = frozenset({"threads", "cache", "external_data_dir", "isolate"})


@dataclass(frozen=True)
class Options:
    """Everything that decides how a model is compiled; stored in the package.

    Fields
      target             "native", "x86-64-v3", "x86-64-v4", "cuda", "cuda:sm_90", ...; several make one
                         package for all of them
      shapes             {"batch": 1} fixes a symbol; {"batch": (1, 8, 64)} hints its minimum, typical and
                         maximum extent; {"x": (1, 3, 224, 224)} gives an input's dims (None leaves one as is)
      precision          "model" computes in the model's dtypes; "fp16" and "bf16" convert float32
                         contractions and what lies between them, "fp32" 16-bit floats to float32
      accuracy           "strict": direct summation only; "default": Winograd too; "fast": fast matrix
                         multiplication too, which is not batch-invariant
      optimize           0 (as imported) to 3
      threads            size of the thread pool; None takes the affinity mask and the cgroup quota
      strict             refuse nodes that would run on the host evaluator
      memory             "low" forbids algorithms that expand weights
      outputs            further values to return, by ONNX name
      alias              {"past": "present"}: input and output share storage and append in place
      tune               measure schedules on this machine instead of trusting the cost model
      cache              use the compile cache of the user
      debug_codegen      generated code checks the bounds of its own accesses, red zones lie around buffers,
                         and their memory holds NaNs before each run: slow, for finding faults of dlc
      isolate            compile in a process of its own: a crash or an endless compilation ends that alone,
                         and becomes an error
      limits             bounds on work and memory
      external_data_dir  another folder in which external data may lie

    Raises InputError (code "input/option") for any value outside these.
    """

    target: str | tuple[str, ...] = "native"
    shapes: Mapping[str, ShapeSpec] = field(default_factory=dict)
    precision: str = "model"
    accuracy: str = "default"
    optimize: int = 2
    threads: int | None = None
    strict: bool = False
    memory: str = "default"
    outputs: tuple[str, ...] = ()
    alias: Mapping[str, str] = field(default_factory=dict)
    tune: bool = False
    cache: bool = True
    debug_codegen: bool = False
    isolate: bool = False
    limits: Limits = field(default_factory=Limits)
    external_data_dir: str | None = None

    def __post_init__(self) -> None:
        def set_field(name: str, convert: Callable[[Any], Any]) -> None:
            object.__setattr__(self, name, convert(getattr(self, name)))

        set_field("target", _target)
        set_field("shapes", _shapes)
        set_field("precision", lambda value: _one_of("precision", value, PRECISIONS))
        set_field("accuracy", lambda value: _one_of("accuracy", value, ACCURACIES))
        set_field("optimize", lambda value: _integer("optimize", value, 0, 3))
        set_field("threads", lambda value: None if value is None else _integer("threads", value, 1, 4096))
        set_field("memory", lambda value: _one_of("memory", value, MEMORIES))
        set_field("outputs", lambda value: _names("outputs", value))
        set_field("alias", _alias)
        set_field("external_data_dir", _folder)
        for name in ("strict", "tune", "cache", "debug_codegen", "isolate"):
            if not isinstance(getattr(self, name), bool):
                raise _invalid(name, getattr(self, name), "True or False")
        if not isinstance(self.limits, Limits):
            raise _invalid("limits", self.limits, "a dlc.Limits")

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets as a tuple, whether one or several were given."""
        return (self.target,) if isinstance(self.target, str) else self.target

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-compatible data; :meth:`from_dict` restores an equal object."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        data["target"] = self.target if isinstance(self.target, str) else list(self.target)
        data["shapes"] = {
            name: list(spec) if isinstance(spec, tuple) else spec
            for name, spec in sorted(self.shapes.items())
        }
        data["outputs"] = list(self.outputs)
        data["alias"] = dict(sorted(self.alias.items()))
        data["limits"] = self.limits.to_dict()
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Options:
        """The inverse of :meth:`to_dict`; absent fields take their defaults, unknown ones are refused."""
        known = {item.name for item in fields(cls)}
        for name in data:
            if name not in known:
                shown = printable(repr(name))
                hint = "one of " + ", ".join(sorted(known))
                raise InputError(f"unknown option {shown}", hint=hint, code="input/option")
        limits = data.get("limits", {})
        return cls(**{**data, "limits": limits if isinstance(limits, Limits) else Limits.from_dict(limits)})

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no white space, so that equal options give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Options:
        """The inverse of :meth:`to_json`."""
        return cls.from_dict(json.loads(text))

    def key(self) -> str:
        """A SHA-256 over the fields that decide the generated code: the options' part of a cache key."""
        data = {name: value for name, value in self.to_dict().items() if name not in _NOT_IN_KEY}
        return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as plain data: a read-only mapping cannot be pickled."""
        return Options.from_dict, (self.to_dict(),)


@dataclass(frozen=True)
class Environment:
    """The environment variables that dlc honours; nothing else of the environment changes what it does.

    DLC_NUM_THREADS  thread count where `threads` is None
    DLC_CACHE_DIR    folder of the compile cache instead of the platform's
    DLC_DEBUG        any value but 0: the command line shows tracebacks
    """

    num_threads: int | None = None
    cache_dir: str | None = None
    debug: bool = False

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> Environment:
        """The values in `variables` (by default the process's environment); InputError for a bad number."""
        source = os.environ if variables is None else variables
        threads = source.get("DLC_NUM_THREADS", "")
        if threads and not (threads.isascii() and threads.isdigit() and 1 <= int(threads) <= 4096):
            raise _invalid("DLC_NUM_THREADS", threads, "an integer from 1 to 4096")
        return cls(
            num_threads=int(threads) if threads else None,
            cache_dir=source.get("DLC_CACHE_DIR") or None,
            debug=source.get("DLC_DEBUG", "0") not in ("", "0"),
        )


def _invalid(name: str, value: object, expected: str) -> InputError:
    return InputError(f"{name} must be {expected}, not {printable(repr(value))}", code="input/option")


def _one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise _invalid(name, value, "one of " + ", ".join(choices))
    return value


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or not low <= int(value) <= high:
        raise _invalid(name, value, f"an integer from {low} to {high}")
    return int(value)


def _names(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_sequence or not all(isinstance(item, str) for item in value):
        raise _invalid(name, value, "a sequence of names")
    return tuple(value)


def _target(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str) and value:
        return value
    names = _names("target", value)
    if not names or not all(names) or len(set(names)) < len(names):
        raise _invalid("target", value, "a target's name or a list of different ones")
    return names


def _shapes(value: Any) -> Mapping[str, ShapeSpec]:
    if value is not None and not isinstance(value, Mapping):
        raise _invalid("shapes", value, "a mapping of symbols or inputs to extents")
    specs = {_key("shapes", name): _shape(name, spec) for name, spec in (value or {}).items()}
    return MappingProxyType(specs)


def _shape(name: str, spec: Any) -> ShapeSpec:
    def extent(item: Any) -> int | str | None:
        if item is None or (isinstance(item, str) and item):
            return item
        if isinstance(item, bool) or not hasattr(item, "__index__") or int(item) < 0:
            raise _invalid(f"shapes[{printable(repr(name))}]", spec, "extents >= 0, names or None")
        return int(item)

    if isinstance(spec, Sequence) and not isinstance(spec, str):
        return tuple(extent(item) for item in spec)
    fixed = extent(spec)
    if not isinstance(fixed, int):
        raise _invalid(f"shapes[{printable(repr(name))}]", spec, "an extent or a tuple of extents")
    return fixed


def _alias(value: Any) -> Mapping[str, str]:
    if value is not None and not isinstance(value, Mapping):
        raise _invalid("alias", value, "a mapping of input names to output names")
    pairs = {_key("alias", name): _key("alias", output) for name, output in (value or {}).items()}
    if len(set(pairs.values())) < len(pairs):
        raise _invalid("alias", dict(pairs), "a mapping in which no output stands twice")
    return MappingProxyType(pairs)


def _key(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _invalid(name, value, "a mapping whose names are non-empty strings")
    return value


def _folder(value: Any) -> str | None:
    if value is None:
        return None
    try:
        path = os.fspath(value)
    except TypeError:
        raise _invalid("external_data_dir", value, "a path") from None
    return path if isinstance(path, str) else os.fsdecode(path)

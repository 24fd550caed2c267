"""SessionOptions and RunOptions with onnxruntime's attributes, and what each of them means here."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, ClassVar

from dlc.errors import InputError, UnsupportedError, printable
from dlc.options import Options, ShapeSpec
from dlc.runtime.call import CancelToken

#: The execution provider that dlc is in onnxruntime's terms.
PROVIDER = "CPUExecutionProvider"


class GraphOptimizationLevel(IntEnum):
    """onnxruntime's levels; dlc compiles with -O0, -O1 and, for the three highest, -O2."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(IntEnum):
    """onnxruntime's modes. Nodes run one after the other in both: each uses all threads."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


#: Attributes that change no result and that dlc has no use for, with onnxruntime's defaults.
_HARMLESS: dict[str, Any] = {
    "inter_op_num_threads": 0,
    "execution_mode": ExecutionMode.ORT_SEQUENTIAL,
    "execution_order": 0,
    "enable_cpu_mem_arena": True,
    "enable_mem_pattern": True,
    "enable_mem_reuse": True,
    "log_severity_level": -1,
    "log_verbosity_level": 0,
    "logid": "",
    "profile_file_prefix": "onnxruntime_profile_",
    "use_deterministic_compute": False,  # results have the same bits on every run anyway
    "use_per_session_threads": True,
}

#: Attributes that may only keep their defaults: (default, what to do instead).
_REFUSED: dict[str, tuple[Any, str]] = {
    "enable_profiling": (False, "use `dlc profile` or dlc.compile(...).profile()"),
    "optimized_model_filepath": ("", "dlc.compile(...).save(path) keeps the compiled model"),
}

#: Methods of onnxruntime's options that dlc has no counterpart of: what to do instead.
_REFUSED_METHODS: dict[str, str] = {
    "add_external_initializers": "store the weights in the model or in its external data",
    "add_external_initializers_from_files_in_memory": "store the weights in the model",
    "add_free_dimension_override_by_denotation": "use add_free_dimension_override_by_name",
    "add_initializer": "store the weights in the model",
    "add_provider": "dlc compiles for the CPU: leave the providers out",
    "register_custom_ops_library": "dlc does not load operators from libraries",
}

#: Keyword arguments of onnxruntime's sessions that change no result.
_HARMLESS_ARGUMENTS = ("enable_fallback", "read_config_from_model")

#: Those that dlc has no counterpart of: what to do instead.
_REFUSED_ARGUMENTS: dict[str, str] = {
    "disabled_optimizers": "set graph_optimization_level, or leave passes out with `dlc compile --skip PASS`",
}

#: The options of dlc.compile, and of dlc.load.
_COMPILE_OPTIONS = frozenset({"progress", *(field.name for field in dataclasses.fields(Options))})
_LOAD_OPTIONS = frozenset({"threads", "copy_weights", "verify"})

#: Configuration entries that change no result, by prefix.
_HARMLESS_ENTRIES = ("session.intra_op.", "session.inter_op.", "session.use_env_allocators", "memory.")


class _Attributes:
    """Attributes with checked names: assigning one that dlc knows nothing of is an error, not a no-op."""

    _harmless: ClassVar[dict[str, Any]] = {}
    _refused: ClassVar[dict[str, tuple[Any, str]]] = {}
    _methods: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        for name, value in self._harmless.items():
            object.__setattr__(self, name, value)
        for name, (value, _) in self._refused.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._refused and value != self._refused[name][0]:
            remedy = self._refused[name][1]
            raise UnsupportedError(f"{type(self).__name__}.{name} is not offered by dlc", hint=remedy)
        if not name.startswith("_") and not hasattr(self, name):
            raise InputError(
                f"{type(self).__name__} has no attribute {printable(repr(name))}", code="input/option"
            )
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        remedy = self._methods.get(name)
        if remedy is None:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

        def refuse(*_: Any, **__: Any) -> None:
            raise UnsupportedError(f"{type(self).__name__}.{name} is not offered by dlc", hint=remedy)

        return refuse


class SessionOptions(_Attributes):
    """Options of an :class:`InferenceSession`.

    `intra_op_num_threads` (0: as many as the process may use) and `graph_optimization_level` have an effect,
    as have dims fixed by :meth:`add_free_dimension_override_by_name`. What only concerns onnxruntime's own
    memory, threads and logging is accepted; what would change results or write files raises UnsupportedError,
    and an unknown name InputError.
    """

    _harmless = _HARMLESS
    _refused = _REFUSED
    _methods = _REFUSED_METHODS

    intra_op_num_threads: int = 0
    graph_optimization_level: GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL

    def __init__(self) -> None:
        super().__init__()
        self._dims: dict[str, ShapeSpec] = {}
        self._entries: dict[str, str] = {}

    def add_free_dimension_override_by_name(self, dim_name: str, dim_value: int) -> None:
        """Fix the symbolic dim `dim_name` of the inputs."""
        self._dims[dim_name] = dim_value

    def add_session_config_entry(self, config_key: str, config_value: str) -> None:
        """Accepts entries about threads and memory, which change no result; UnsupportedError for others."""
        if not config_key.startswith(_HARMLESS_ENTRIES):
            raise UnsupportedError(
                f"dlc does not know the session configuration {printable(repr(config_key))}",
                hint="leave it out, or use the options of dlc.compile",
            )
        self._entries[config_key] = config_value

    def get_session_config_entry(self, config_key: str) -> str:
        """The value given for `config_key`; InputError when there is none."""
        try:
            return self._entries[config_key]
        except KeyError:
            raise InputError(
                f"no session configuration {printable(repr(config_key))}", code="input/option"
            ) from None

    def compile_arguments(self) -> dict[str, Any]:
        """The arguments of `dlc.compile` that these options stand for."""
        try:
            level = GraphOptimizationLevel(self.graph_optimization_level)
        except ValueError:
            raise InputError(
                f"graph_optimization_level must be a GraphOptimizationLevel, not "
                f"{printable(repr(self.graph_optimization_level))}",
                code="input/option",
            ) from None
        threads = self.intra_op_num_threads
        return {
            "optimize": min(int(level), 2),
            "threads": None if threads == 0 else threads,
            "shapes": dict(self._dims),
        }


class RunOptions(_Attributes):
    """Options of one run. Setting `terminate` to True, from any thread, stops the runs that use them."""

    _harmless: ClassVar[dict[str, Any]] = {
        "log_severity_level": -1,
        "log_verbosity_level": 0,
        "logid": "",
        "only_execute_path_to_fetches": False,
    }
    _methods: ClassVar[dict[str, str]] = {"add_active_adapter": "merge the adapter into the model's weights"}

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, str] = {}
        self._cancel = CancelToken()
        self._terminate = False

    @property
    def terminate(self) -> bool:
        """Whether the runs that use these options stop before their next kernel, with CancelledError."""
        return self._terminate

    @terminate.setter
    def terminate(self, value: bool) -> None:
        self._terminate = bool(value)
        if value:
            self._cancel.cancel()
        else:
            self._cancel = CancelToken()

    @property
    def cancel_token(self) -> CancelToken:
        """What :meth:`CompiledModel.run` takes."""
        return self._cancel

    def add_run_config_entry(self, config_key: str, config_value: str) -> None:
        """Accepts entries about memory, which change no result; UnsupportedError for others."""
        if not config_key.startswith("memory."):
            raise UnsupportedError(
                f"dlc does not know the run configuration {printable(repr(config_key))}", hint="leave it out"
            )
        self._entries[config_key] = config_value

    def get_run_config_entry(self, config_key: str) -> str:
        """The value given for `config_key`; InputError when there is none."""
        try:
            return self._entries[config_key]
        except KeyError:
            raise InputError(
                f"no run configuration {printable(repr(config_key))}", code="input/option"
            ) from None


def get_available_providers() -> list[str]:
    """The providers in onnxruntime's terms: the CPU."""
    return [PROVIDER]


def get_device() -> str:
    """The device that models run on, as onnxruntime names it."""
    return "CPU"


def get_all_providers() -> list[str]:
    """The providers that dlc knows, in onnxruntime's terms: the CPU."""
    return [PROVIDER]


def set_default_logger_severity(severity: int) -> None:
    """Does nothing: dlc writes to ``logging.getLogger("dlc")``, and never to the terminal."""


def own_arguments(arguments: Mapping[str, Any], is_package: bool) -> dict[str, Any]:
    """The options of dlc.compile, or dlc.load, among the keyword arguments of a session.

    Raises UnsupportedError for arguments of onnxruntime that dlc cannot honour, InputError for unknown ones.
    """
    function, known = ("load", _LOAD_OPTIONS) if is_package else ("compile", _COMPILE_OPTIONS)
    options = {name: value for name, value in arguments.items() if name not in _HARMLESS_ARGUMENTS}
    for name in options:
        if name in _REFUSED_ARGUMENTS:
            remedy = _REFUSED_ARGUMENTS[name]
            raise UnsupportedError(f"the argument {name} of a session is not offered by dlc", hint=remedy)
        if name not in known:
            raise InputError(
                f"a session has no argument {printable(repr(name))}",
                hint=f"its arguments are onnxruntime's, and the options of dlc.{function}",
                code="input/option",
            )
    return options


def check_providers(providers: Sequence[Any] | None) -> None:
    """Warn, as onnxruntime does, of providers that are not there; InputError for what names none."""
    if isinstance(providers, str):
        raise InputError("providers must be a list of names", code="input/option")
    for entry in providers or ():
        name = entry[0] if isinstance(entry, tuple) and entry else entry
        if not isinstance(name, str):
            raise InputError(
                f"a provider is a name or (name, options), not {printable(repr(entry))}", code="input/option"
            )
        if name != PROVIDER:
            warnings.warn(
                f"provider {printable(repr(name))} is not available: the model runs on the CPU",
                stacklevel=3,
            )

"""InferenceSession: a compiled model with onnxruntime's methods."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlc.api.compile import compile
from dlc.api.description import Description, stored_description
from dlc.api.load import load
from dlc.api.model import CompiledModel
from dlc.api.session.binding import IOBinding
from dlc.api.session.options import (
    PROVIDER,
    RunOptions,
    SessionOptions,
    check_providers,
    own_arguments,
)
from dlc.api.session.values import OrtValue, object_type_string, type_string
from dlc.api.specs import TensorSpec
from dlc.errors import Error, InputError, printable

#: A symbol in the text of a dim; names of functions are followed by a parenthesis.
_SYMBOL = re.compile(r"[A-Za-z_]\w*\b(?!\()")


@dataclass(frozen=True)
class NodeArg:
    """An input or output: its name, its type as text ("tensor(float)"), and its extents.

    An extent is a number, the model's own name of a symbolic dim, an expression over such names where dlc
    has inferred one, or None.
    """

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True)
class ModelMetadata:
    """What a model says about itself."""

    graph_name: str = ""
    producer_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = 0
    custom_metadata_map: Mapping[str, str] = field(default_factory=dict)


class InferenceSession:
    """A model ready to run, with the call shape of ``onnxruntime.InferenceSession``.

    `path_or_bytes` is an ONNX model, or the path of a package that dlc saved. `providers` is a list that dlc
    answers with the CPU; `provider_options` has nothing to say of it. Keyword arguments besides these are
    options of `dlc.compile`; of onnxruntime's own, `enable_fallback` has no effect, since there is one
    provider, and `disabled_optimizers` and others raise UnsupportedError. Raises what `dlc.compile` raises.
    """

    #: The :class:`dlc.CompiledModel` that does the work.
    compiled_model: CompiledModel

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes,
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise InputError(
                f"sess_options must be dlc.SessionOptions, not {type(sess_options).__name__}",
                code="input/option",
            )
        check_providers(providers)
        self._options = sess_options or SessionOptions()
        arguments = self._options.compile_arguments()
        is_package = _is_package(path_or_bytes)
        given = own_arguments(kwargs, is_package)
        if is_package:
            self.compiled_model = load(path_or_bytes, **{"threads": arguments["threads"], **given})
        else:
            self.compiled_model = compile(path_or_bytes, **{**arguments, **given})
        self._description = stored_description(self.compiled_model.manifest)

    # --- what the model is

    def get_inputs(self) -> list[NodeArg]:
        """The inputs, in the model's order."""
        return [_node_arg(spec, self._description) for spec in self.compiled_model.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the model's order."""
        return [_node_arg(spec, self._description) for spec in self.compiled_model.outputs]

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Empty: inputs with default values are compiled in."""
        return []

    def get_modelmeta(self) -> ModelMetadata:
        """What the model says about itself."""
        data = self._description
        return ModelMetadata(
            graph_name=self.compiled_model.name,
            producer_name=data.producer,
            domain=data.domain,
            description=data.text,
            version=data.version,
            custom_metadata_map=dict(data.properties),
        )

    def get_session_options(self) -> SessionOptions:
        """The options that the session was made with."""
        return self._options

    def get_providers(self) -> list[str]:
        """The CPU, in onnxruntime's terms."""
        return [PROVIDER]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """The CPU has none."""
        return {PROVIDER: {}}

    def set_providers(
        self, providers: Sequence[Any] | None = None, provider_options: Sequence[Any] | None = None
    ) -> None:
        """Accepts the CPU; warns of anything else."""
        check_providers(providers)

    def disable_fallback(self) -> None:
        """Does nothing: there is one provider."""

    def enable_fallback(self) -> None:
        """Does nothing: there is one provider."""

    # --- running

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[Any]:
        """The outputs named (None or none: all) for arrays by input name.

        Raises InputError, which is a ValueError, for names and arrays that do not fit.
        """
        if not isinstance(input_feed, Mapping):
            raise InputError(
                f"input_feed must be a dictionary of arrays by input name, not {type(input_feed).__name__}",
                code="input/name",
            )
        feeds = {name: v.numpy() if isinstance(v, OrtValue) else v for name, v in input_feed.items()}
        for name in self._description.defaults:
            if name in feeds:
                raise InputError(
                    f"input {printable(name)!r} has a value in the model, which is compiled in",
                    hint="take its initializer out of the model to feed it",
                    code="input/name",
                )
        return self.compiled_model.run(_names(output_names), feeds, _cancel(run_options))

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """:meth:`run` with values in and out."""
        return [OrtValue(array) for array in self.run(output_names, input_dict_ort_values, run_options)]

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], None],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Run in a thread of its own, which then calls ``callback(outputs, user_data, error)``.

        `error` is empty when the run succeeded, else the error's text, and the outputs are empty.
        """

        def work() -> None:
            try:
                outputs, message = self.run(output_names, input_feed, run_options), ""
            except Error as error:
                outputs, message = [], str(error)
            callback(outputs, user_data, message)

        threading.Thread(target=work, name="dlc-run-async", daemon=True).start()

    def io_binding(self) -> IOBinding:
        """An object to bind inputs and outputs to memory."""
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Run on what is bound."""
        iobinding.run(_cancel(run_options))

    def end_profiling(self) -> str:
        """Always InputError: profiling was not enabled."""
        raise InputError(
            "the session does not profile", hint="use `dlc profile` or dlc.compile(...).profile()"
        )

    def __repr__(self) -> str:
        return f"<InferenceSession {printable(repr(self.compiled_model.name))}>"


def _is_package(source: object) -> bool:
    return isinstance(source, str | os.PathLike) and str(os.fspath(source)).endswith(".dlc")


def _names(output_names: Sequence[str] | None) -> list[str] | None:
    """The outputs that are asked for; None for all."""
    if isinstance(output_names, str) or any(not isinstance(name, str) for name in output_names or ()):
        raise InputError(
            f"output_names must be a list of names, not {printable(repr(output_names))}", code="input/name"
        )
    return list(output_names) if output_names else None


def _cancel(options: RunOptions | None) -> Any:
    """The token of a run's options."""
    if options is None:
        return None
    if not isinstance(options, RunOptions):
        raise InputError(
            f"run_options must be dlc.RunOptions, not {type(options).__name__}", code="input/option"
        )
    return options.cancel_token


def _node_arg(spec: TensorSpec, description: Description) -> NodeArg:
    shape = [_extent(extent, description.dims) for extent in spec.shape]
    text = object_type_string(spec.type) if spec.type else type_string(spec.dtype)
    return NodeArg(spec.name, text, shape)


def _extent(extent: int | str, names: Mapping[str, str]) -> int | str | None:
    """An extent in the model's own names; None if it depends on a dim that has none."""
    if isinstance(extent, int):
        return extent
    symbols = set(_SYMBOL.findall(extent))
    if not symbols <= set(names):
        return None
    return _SYMBOL.sub(lambda match: names[match[0]], extent)

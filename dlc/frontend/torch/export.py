"""torch.onnx's exporter: run without noise, and its failures as UnsupportedError that names the operator."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dlc.errors import Finding, UnsupportedError, printable

logger = logging.getLogger("dlc")

#: The standard's version that is exported to: the first with Attention.
OPSET = 23

#: Models with at least this many bytes of weights go through files: a protobuf message holds 2 GiB.
_LARGE = 1 << 30

#: How the exporter writes operators of torch in its messages.
_OPERATORS = (
    re.compile(r"OpOverload\(op='(?P<op>[\w.]+)', overload='(?P<overload>\w+)'\)"),
    re.compile(r"target=torch\.ops\.(?P<op>\w+\.\w+)\.(?P<overload>\w+)"),
    re.compile(r"torch\.ops\.(?P<op>\w+\.\w+)\.(?P<overload>\w+)"),
    re.compile(r"Operator (?P<op>\w+\.\w+)\.(?P<overload>\w+)"),
    re.compile(r"(?P<op>aten::?\w+)(?P<overload>)"),
)

#: Exports change settings of the process.
_lock = threading.Lock()


@dataclass(frozen=True)
class Exported:
    """What the exporter made: a torch.onnx.ONNXProgram."""

    program: Any

    @property
    def signature(self) -> Any:
        """What the inputs and outputs of the exported graph are: a torch.export.ExportGraphSignature."""
        return self.program.exported_program.graph_signature

    @contextlib.contextmanager
    def source(self, folder: Path) -> Iterator[bytes | Path]:
        """The ONNX model as bytes, or as a file with external data in `folder` if its weights are large."""
        tensors = (value.const_value for value in self.program.model.graph.initializers.values())
        if sum(tensor.nbytes for tensor in tensors if tensor is not None) < _LARGE:
            yield self.program.model_proto.SerializeToString()
        else:
            path = folder / "model.onnx"
            self.program.save(path, external_data=True)
            yield path


def require_exporter() -> None:
    """UnsupportedError if what the exporter consists of is not installed."""
    missing = [name for name in ("torch", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UnsupportedError(
            f"modules are compiled through torch.onnx, which needs {' and '.join(missing)}",
            hint="pip install 'dlc[torch]'",
            code="unsupported/target",
        )


def export(
    module: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, dynamic_shapes: Any = None
) -> Exported:
    """`module`, called as ``module(*args, **kwargs)``, as an ONNX model.

    `dynamic_shapes` is that of torch.export.export, or names of dims in its place. Raises UnsupportedError
    for what torch.export cannot trace or torch.onnx has no operators for.
    """
    require_exporter()
    import torch

    try:
        with _quietly(), _plain_operators():
            program = torch.onnx.export(
                module,
                tuple(args),
                kwargs=dict(kwargs or {}),
                dynamic_shapes=dynamic_shapes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise _unsupported(error) from error
    return Exported(program)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep what torch says of itself and of the graph out of the user's terminal.

    Unless TORCH_LOGS asks for it; the logger "dlc" gets what torch writes to standard error.
    """
    if "TORCH_LOGS" in os.environ:
        yield
        return
    written = io.StringIO()
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "torch"]
    handlers = {handler for name in names for handler in logging.getLogger(name).handlers}
    with _lock, warnings.catch_warnings(), contextlib.redirect_stderr(written):
        warnings.simplefilter("ignore")
        for handler in handlers:
            handler.addFilter(_nothing)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(_nothing)
    if written.getvalue():
        logger.debug("torch.onnx: %s", written.getvalue())


def _nothing(record: logging.LogRecord) -> bool:
    """Filter of logs: lets nothing through."""
    return False


@contextlib.contextmanager
def _plain_operators() -> Iterator[None]:
    """Trace what modules do with gradients: without, some use operators that only torch itself runs.

    torch.onnx replaces the rules of recurrent operators during an export, but the operators remember the
    rules that they used before (torch 2.13): they have to forget them.
    """
    import torch

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    _forget_rules()
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        _forget_rules()


def _forget_rules() -> None:
    import torch

    for operator in (torch.ops.aten.lstm.input, torch.ops.aten.gru.input):
        remembered = getattr(operator, "_dispatch_cache", None)
        if remembered is not None:
            remembered.clear()


def _unsupported(error: BaseException) -> UnsupportedError:
    """The error of dlc for one of the exporter, which says the operator that is at fault, if one is."""
    chain = list(_causes(error))
    operator = next((found for cause in chain if (found := _operator(str(cause)))), None)
    # The first cause says what happened; those above it repeat where.
    reason = printable(" ".join(str(chain[-1]).split("\n\n")[0].split()), 400)
    if operator is None:
        return UnsupportedError(f"torch.onnx cannot export this module: {reason}")
    finding = Finding(node="", operator=operator, domain="", opset=OPSET, dtypes=(), shapes=(), reason=reason)
    return UnsupportedError(f"torch.onnx cannot export the operator {operator}", findings=[finding])


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and the errors that it comes from, the first cause last."""
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _operator(text: str) -> str | None:
    """The operator of torch that a message names, as in "aten.special_bessel_j0"."""
    for pattern in _OPERATORS:
        match = pattern.search(text)
        if match is not None:
            name = match["op"].replace("::", ".")
            overload = match["overload"]
            return printable(name if overload in ("", "default") else f"{name}.{overload}")
    return None

"""The errors of dlc: one class for each remedy, one stable code for each cause.

Every error that leaves dlc derives from :class:`Error`. It says what is wrong (``message``), where
(``node``: the ONNX name of the node), what to do (``hint``), and carries a ``code`` that programs may
compare; :data:`CODES` lists every code with its meaning, and codes are never renamed or reused. Strings
that come from a model reach a message only through :func:`printable`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

#: Every code that an error may carry, with its meaning. A code is `class` or `class/cause`.
CODES: Mapping[str, str] = {
    "error": "an error without a more precise class",
    "model": "the model is not a valid ONNX model",
    "model/protobuf": "the file is not a readable protobuf message, or is nested too deeply",
    "model/graph": "the graph breaks a rule of ONNX: a cycle, a name defined twice or never",
    "model/function": "a model-local function is missing, recursive or malformed",
    "model/attribute": "an attribute is missing, unknown, of the wrong type or out of range",
    "model/type": "the types or shapes of a node's operands do not fit its operator",
    "model/external-data": "external data is missing, outside the permitted folders, or out of bounds",
    "unsupported": "the model is valid, but uses something that dlc does not compile",
    "unsupported/target": "the target is unknown, or this machine or installation cannot serve it",
    "unsupported/strict": "a node would run on the host, which strict=True refuses",
    "input": "an argument of a call does not fit the model or the function",
    "input/option": "an option has an unknown name or an invalid value",
    "input/name": "an input or output name that the model does not have, or one that is missing",
    "input/dtype": "an array has another dtype than the model's input",
    "input/array": "an array is read-only, overlapping, on another device or otherwise unfit",
    "input/file": "a file given by the user is missing or unreadable",
    "input/shape": "an array's shape does not fit the model's input or another input",
    "input/index": "an index that came from data was out of range during a run",
    "limit": "a bound of dlc.Limits would be exceeded",
    "resource": "memory, address space, threads or disk space are not available",
    "package": "a .dlc package is damaged, of another format, or not made for this machine",
    "verification": "a comparison of results found a disagreement",
    "cancelled": "the work was cancelled by its caller",
    "internal": "a bug in dlc",
}

_FINDINGS_SHOWN = 20


def printable(text: str, limit: int = 200) -> str:
    """`text` with control, format, surrogate and line-breaking characters escaped, cut to `limit` characters.

    The one escaping function for strings of a model or a file on their way to a terminal, a log or a message:
    the result holds no escape sequence, no newline and no bidirectional override.
    """
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(
        character
        if character == " " or unicodedata.category(character)[0] not in "CZ"
        else character.encode("unicode_escape").decode("ascii")
        for character in cut
    )


class Error(Exception):
    """Base of everything that dlc raises on purpose.

    Attributes: `message` (one sentence, no full stop), `node` (the ONNX name of the node concerned, or None),
    `hint` (what the user can do, or None), `code` (a key of :data:`CODES`).
    """

    default_code: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, node: str | None = None, hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.node = node
        self.hint = hint
        self.code = code if code is not None else self.default_code

    def __str__(self) -> str:
        """``message (node 'name'); hint``, without the parts that are absent."""
        where = f" (node '{printable(self.node)}')" if self.node is not None else ""
        remedy = f"; {self.hint}" if self.hint is not None else ""
        return f"{self.message}{where}{remedy}"

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON-compatible data, as `--json` prints it."""
        return {
            "error": type(self).__name__,
            "code": self.code,
            "message": self.message,
            "node": self.node,
            "hint": self.hint,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the keyword-only fields across processes (isolated compilation, worker processes)."""
        return _rebuild, (type(self), self.message, self.__dict__.copy())


def _rebuild(cls: type[Error], message: str, state: dict[str, Any]) -> Error:
    error = cls(message)
    error.__dict__.update(state)
    return error


class ModelError(Error):
    """The model is not valid ONNX; another exporter, or `onnx.checker`, can tell more."""

    default_code = "model"


class ExternalDataError(ModelError):
    """External data of a tensor is missing, lies outside the permitted folders or is out of bounds."""

    default_code = "model/external-data"


@dataclass(frozen=True)
class Finding:
    """One thing that keeps a model from being compiled (or, under strict, from being native throughout).

    `dtypes` and `shapes` describe the node's inputs in order, as text ("float32", "[batch, 3, 224]"), with
    "-" for an absent optional input.
    """

    node: str
    operator: str
    domain: str
    opset: int
    dtypes: tuple[str, ...]
    shapes: tuple[str, ...]
    reason: str
    hint: str | None = None

    def __str__(self) -> str:
        name = f"{self.domain}.{self.operator}" if self.domain else self.operator
        version = f"-{self.opset}" if self.opset else ""
        operands = ", ".join(f"{dtype}{shape}" for dtype, shape in zip(self.dtypes, self.shapes))
        form = f"({operands})" if operands or version else ""
        remedy = f"; {self.hint}" if self.hint else ""
        text = f"{name}{version}{form} at node '{self.node}': {self.reason}{remedy}"
        return printable(text, limit=1000)

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON-compatible data."""
        return {
            "node": self.node,
            "operator": self.operator,
            "domain": self.domain,
            "opset": self.opset,
            "dtypes": list(self.dtypes),
            "shapes": list(self.shapes),
            "reason": self.reason,
            "hint": self.hint,
        }


class UnsupportedError(Error):
    """A valid model uses something that dlc does not compile; `findings` holds every such thing."""

    default_code = "unsupported"

    def __init__(
        self,
        message: str,
        *,
        node: str | None = None,
        hint: str | None = None,
        code: str | None = None,
        findings: Sequence[Finding] = (),
    ) -> None:
        super().__init__(message, node=node, hint=hint, code=code)
        self.findings = tuple(findings)

    def __str__(self) -> str:
        lines = [super().__str__(), *(f"  {finding}" for finding in self.findings[:_FINDINGS_SHOWN])]
        if len(self.findings) > _FINDINGS_SHOWN:
            lines.append(f"  and {len(self.findings) - _FINDINGS_SHOWN} more")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "findings": [finding.to_dict() for finding in self.findings]}


class InputError(Error, ValueError, TypeError):
    """An argument does not fit: an unknown name, a wrong dtype, an invalid option."""

    default_code = "input"


class ShapeError(InputError):
    """The shapes of the arrays given do not fit the model or each other."""

    default_code = "input/shape"


class IndexFault(InputError, IndexError):
    """An index out of range, found in the data during a run (Gather, Scatter, Slice, ...); no outputs."""

    default_code = "input/index"


class LimitError(Error):
    """Going on would exceed a field of :class:`dlc.Limits`; nothing was spent beyond it."""

    default_code = "limit"


class ResourceError(Error, MemoryError):
    """The machine lacks what the work needs: memory, threads, disk space."""

    default_code = "resource"


class PackageError(Error):
    """A `.dlc` package cannot be trusted or used here."""

    default_code = "package"


class VerificationError(Error):
    """Two engines disagree beyond the tolerance."""

    default_code = "verification"


class CancelledError(Error):
    """The caller's `progress` callback or an interrupt stopped the work."""

    default_code = "cancelled"


class InternalError(Error):
    """A bug in dlc; the hint says how to report it, or gives the command that writes a reproducer."""

    default_code = "internal"

    def __init__(
        self, message: str, *, node: str | None = None, hint: str | None = None, code: str | None = None
    ) -> None:
        default = "this is a bug in dlc: report it with the model and the output of `dlc doctor --json`"
        super().__init__(message, node=node, hint=hint or default, code=code)

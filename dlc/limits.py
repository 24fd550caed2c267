"""Bounds on the work and memory that an untrusted model may cost, checked before they are spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dlc.errors import InputError, LimitError, printable

_MI = 1 << 20
_GI = 1 << 30
#: Fields that may be 0, which forbids what they bound.
_OFF_BY_DEFAULT = frozenset({"decoded_pixels"})


@dataclass(frozen=True)
class Limits:
    """What compiling and running one model may use. Every field is a positive integer, or 0 where it says so.

    The defaults let ordinary models through (the largest have some 20,000 nodes and 10 GB of weights) and
    stop the known bombs within seconds. Raise a field for more: ``dlc.Limits(arena_bytes=64 << 30)``.
    """

    #: Bytes of the model file or message without external data; protobuf itself ends at 2 GiB.
    model_bytes: int = 2 * _GI
    #: Bytes of all weights, external data included.
    weight_bytes: int = 64 * _GI
    #: Nodes of all graphs and subgraphs after functions are inlined.
    nodes: int = 500_000
    #: Nesting of subgraphs and of protobuf messages. Exporters stay under 10.
    depth: int = 64
    #: Nodes that inlining of model-local and standard functions may create.
    inlined_nodes: int = 200_000
    #: Calls of one function inside another; recursion is refused whatever this says.
    function_depth: int = 32
    #: Rank of a tensor. NumPy, the evaluator's base, ends at 64.
    rank: int = 32
    #: Elements of one tensor (and the largest legal dim), so that byte offsets stay far below 2**63.
    tensor_elements: int = 1 << 40
    #: Bytes of one tensor.
    tensor_bytes: int = 16 * _GI
    #: Bytes of one result of constant folding; a larger one is computed at run time instead.
    folded_tensor_bytes: int = 64 * _MI
    #: Bytes of all results of constant folding together.
    folded_bytes: int = 1 * _GI
    #: Scalar operations that constant folding may spend.
    folding_operations: int = 10_000_000_000
    #: Bytes of activations and workspaces of one call; compared with the computed size before allocating.
    arena_bytes: int = 16 * _GI
    #: Instructions of one kernel in LLVM IR, which bounds code generation to seconds.
    kernel_instructions: int = 200_000
    #: Instructions of all kernels of a model together.
    program_instructions: int = 20_000_000
    #: Seconds, and bytes of memory, that a compilation in a process of its own (isolate=True) may take.
    compile_seconds: int = 600
    compile_bytes: int = 32 * _GI
    #: Iterations of one Loop or Scan in a run before it is reported as endless.
    loop_iterations: int = 100_000_000
    #: Pixels of one image that ImageDecoder may make, by Pillow; 0: it is refused. Its decoders are C code
    #: that reads what the caller passes, so that it is off unless allowed.
    decoded_pixels: int = 0

    def __post_init__(self) -> None:
        for name, value in self.to_dict().items():
            least = 0 if name in _OFF_BY_DEFAULT else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                shown = printable(repr(value))
                message = f"Limits.{name} must be an integer of at least {least}, not {shown}"
                raise InputError(message, code="input/option")

    def check(self, name: str, value: int, what: str, *, node: str | None = None) -> None:
        """Raise LimitError when `value` exceeds the field `name`; `what` says what was counted ("nodes")."""
        bound: int = getattr(self, name)
        if value > bound:
            raise LimitError(
                f"{what}: {value:,} exceeds the limit of {bound:,}",
                node=node,
                hint=f"if the model is trusted, raise it with limits=dlc.Limits({name}={value})",
            )

    def to_dict(self) -> dict[str, int]:
        """All fields as JSON-compatible data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Limits:
        """The inverse of :meth:`to_dict`; absent fields take their defaults, unknown ones are refused."""
        unknown = sorted(set(data) - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(f"unknown limit {printable(repr(unknown[0]))}", code="input/option")
        return cls(**data)

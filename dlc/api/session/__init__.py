"""onnxruntime's interface on top of dlc, for scripts in which `import dlc as ort` takes its place.

What onnxruntime offers and dlc does not is refused with a message that names the way to do it here; nothing
that changes results is ignored.
"""

from __future__ import annotations

from dlc.api.session.binding import IOBinding
from dlc.api.session.options import (
    ExecutionMode,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
    get_all_providers,
    get_available_providers,
    get_device,
    set_default_logger_severity,
)
from dlc.api.session.session import InferenceSession, ModelMetadata, NodeArg
from dlc.api.session.values import OrtValue

__all__ = [
    "ExecutionMode",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "ModelMetadata",
    "NodeArg",
    "OrtValue",
    "RunOptions",
    "SessionOptions",
    "get_all_providers",
    "get_available_providers",
    "get_device",
    "set_default_logger_severity",
]

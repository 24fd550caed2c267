"""dlc compiles trained ONNX models into fast native code.

``model = dlc.compile("model.onnx")`` gives a callable :class:`CompiledModel`; :func:`load` opens a saved
package. The public names below are imported when they are first used, so that ``import dlc`` costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dlc.errors import (
        CancelledError as CancelledError,
        Error as Error,
        ExternalDataError as ExternalDataError,
        Finding as Finding,
        IndexFault as IndexFault,
        InputError as InputError,
        InternalError as InternalError,
        LimitError as LimitError,
        ModelError as ModelError,
        PackageError as PackageError,
        ResourceError as ResourceError,
        ShapeError as ShapeError,
        UnsupportedError as UnsupportedError,
        VerificationError as VerificationError,
    )
    from dlc.limits import Limits as Limits
    from dlc.options import Options as Options
    from dlc.runtime.call import CancelToken as CancelToken
    from dlc.verify import Verification as Verification, verify as verify

#: Public name -> the module that defines it.
_EXPORTS = {
    "CancelledError": "dlc.errors",
    "Error": "dlc.errors",
    "ExternalDataError": "dlc.errors",
    "Finding": "dlc.errors",
    "IndexFault": "dlc.errors",
    "InputError": "dlc.errors",
    "InternalError": "dlc.errors",
    "LimitError": "dlc.errors",
    "ModelError": "dlc.errors",
    "PackageError": "dlc.errors",
    "ResourceError": "dlc.errors",
    "ShapeError": "dlc.errors",
    "UnsupportedError": "dlc.errors",
    "VerificationError": "dlc.errors",
    "Limits": "dlc.limits",
    "Options": "dlc.options",
    "CancelToken": "dlc.runtime.call",
    "CompiledModel": "dlc.api",
    "Outputs": "dlc.api",
    "TensorSpec": "dlc.api",
    "ExecutionMode": "dlc.api.session",
    "GraphOptimizationLevel": "dlc.api.session",
    "IOBinding": "dlc.api.session",
    "InferenceSession": "dlc.api.session",
    "ModelMetadata": "dlc.api.session",
    "NodeArg": "dlc.api.session",
    "OrtValue": "dlc.api.session",
    "RunOptions": "dlc.api.session",
    "SessionOptions": "dlc.api.session",
    "get_all_providers": "dlc.api.session",
    "get_available_providers": "dlc.api.session",
    "get_device": "dlc.api.session",
    "set_default_logger_severity": "dlc.api.session",
    "backend": "dlc.backend",
    "check": "dlc.api",
    "compile": "dlc.api",
    "load": "dlc.api",
    "Verification": "dlc.verify",
    "verify": "dlc.verify",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'dlc' has no attribute '{name}'")
    imported = import_module(module)
    if module == f"{__name__}.{name}":  # a callable module, which the import has made an attribute
        return imported
    globals()[name] = value = getattr(imported, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

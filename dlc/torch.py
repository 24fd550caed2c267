"""dlc for PyTorch: importing this module registers the backend "dlc" of torch.compile.

After an installation with pip, ``torch.compile(module, backend="dlc")`` finds the backend without the import.
"""

from __future__ import annotations

from torch._dynamo import list_backends, register_backend

from dlc.api.torch.backend import backend as backend

__all__ = ["backend"]

if "dlc" not in list_backends(exclude_tags=()):
    register_backend(backend, name="dlc")

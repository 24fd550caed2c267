"""Runs compiled models: packages, loading of code, memory, the thread pool and the call path.

Nothing here needs the compiler: a package runs without onnx and networkx. The native part is LLVM IR in
``native/``, whose ``dlc.h`` documents the interface between models, the runtime and callers. llvmlite is
imported when code is loaded, not before.
"""

from dlc.runtime.abi import ABI_VERSION
from dlc.runtime.arena import Block
from dlc.runtime.cache import Cache, CacheInfo, default_cache
from dlc.runtime.call import (
    Binding,
    CancelToken,
    Interface,
    NativeModel,
    PreparedCall,
    RunState,
    Site,
)
from dlc.runtime.library import Pool, Runtime, runtime
from dlc.runtime.loader import JitLibrary
from dlc.runtime.manifest import Constant, Manifest, ModelInfo, Symbol, TargetCode, TensorInfo
from dlc.runtime.package import Package, package_bytes, write_package
from dlc.runtime.profile import HostCall, Launch, Recording
from dlc.runtime.threads import default_threads

__all__ = [
    "ABI_VERSION",
    "Binding",
    "Block",
    "Cache",
    "CacheInfo",
    "CancelToken",
    "Constant",
    "HostCall",
    "Interface",
    "JitLibrary",
    "Launch",
    "Manifest",
    "ModelInfo",
    "NativeModel",
    "Package",
    "Pool",
    "PreparedCall",
    "Recording",
    "RunState",
    "Runtime",
    "Site",
    "Symbol",
    "TargetCode",
    "TensorInfo",
    "default_cache",
    "default_threads",
    "package_bytes",
    "runtime",
    "write_package",
]

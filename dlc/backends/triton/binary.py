"""From a generated Triton function to the binary of a GPU, on machines with and without one.

Triton is given the target, not asked for a device, and everything that a launch needs to know comes back in
a :class:`GpuBinary`. Triton's own cache is not used (it has no bound): whoever compiles many functions gives
a store of bytes, such as :class:`dlc.runtime.cache.Cache`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dlc.backends.triton.function import TritonFunction
from dlc.backends.triton.source import TRITON_LOCK, load, require_triton
from dlc.backends.triton.workers import compile_in_processes
from dlc.errors import Error, InternalError, UnsupportedError
from dlc.host import usable_cpus
from dlc.target import GpuTarget

#: Products and sums may be contracted to one rounding, as in the code for CPUs.
FP_FUSION = True
#: NVIDIA's libdevice, and floor and ceil, keep denormals: with flushed ones ceil(1e-40) would be 0.
FLUSH_DENORMALS = False
#: Pointers are aligned to this many bytes, which allows vector and asynchronous copies.
_ALIGNMENT = 16
#: Triton's forms of a function that hold the machine code and its text, by backend.
_FORMS = {"cuda": ("cubin", "ptx"), "hip": ("hsaco", "amdgcn")}
_FORMAT = b"dlc-gpu-binary-1\n"
#: Seconds that a processor works on a function with and without matrix products, and on starting a worker
#: until it compiles (measured; estimates for the number of workers only).
_DOT_SECONDS, _PLAIN_SECONDS, _START_SECONDS = 0.4, 0.05, 0.7


@dataclass(frozen=True)
class GpuBinary:
    """A compiled function, with what a launch of it must pass.

    `code` is a cubin or hsaco with the function `entry`, for `backend` and `arch` (as in GpuTarget);
    `assembly` its text (PTX or AMD GCN), for reports. A block has `num_warps` warps and `shared_bytes` of
    dynamic shared memory; blocks come in clusters of `num_ctas`. The function takes `parameters` (Triton's
    types, in order), then the addresses of two scratch areas: the first has `scratch_bytes` for every block,
    aligned to `scratch_alignment`; both addresses are 0 where there is none. `triton` is the version that
    compiled it.
    """

    entry: str
    backend: str
    arch: int | str
    num_warps: int
    num_ctas: int
    shared_bytes: int
    parameters: tuple[str, ...]
    scratch_bytes: int
    scratch_alignment: int
    triton: str
    code: bytes = dataclasses.field(repr=False)
    assembly: str = dataclasses.field(repr=False, default="")

    def to_dict(self) -> dict[str, Any]:
        """Everything but code and assembly, as JSON-compatible data."""
        fields = dataclasses.fields(self)
        kept = {f.name: getattr(self, f.name) for f in fields if f.name not in ("code", "assembly")}
        return {**kept, "parameters": list(self.parameters)}

    @classmethod
    def from_dict(cls, data: dict[str, Any], code: bytes, assembly: str = "") -> GpuBinary:
        """The binary that :meth:`to_dict` described."""
        return cls(**{**data, "parameters": tuple(data["parameters"])}, code=code, assembly=assembly)

    def to_bytes(self) -> bytes:
        """The whole binary, for :meth:`from_bytes`."""
        assembly = zlib.compress(self.assembly.encode())
        header = json.dumps({**self.to_dict(), "code_bytes": len(self.code)}).encode()
        return b"".join((_FORMAT, len(header).to_bytes(4, "little"), header, self.code, assembly))

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> GpuBinary:
        """The binary that :meth:`to_bytes` wrote; the store has checked that it is whole."""
        content = bytes(data)
        begin = len(_FORMAT) + 4
        end = begin + int.from_bytes(content[len(_FORMAT) : begin], "little")
        header = json.loads(content[begin:end])
        middle = end + header.pop("code_bytes")
        return cls.from_dict(header, content[end:middle], zlib.decompress(content[middle:]).decode())


class ByteStore(Protocol):
    """Where binaries are kept between processes, by keys that are SHA-256 digests in hexadecimal."""

    def get(self, key: str) -> bytes | memoryview | None: ...

    def put(self, key: str, payload: bytes) -> None: ...


def compile_function(function: TritonFunction, target: GpuTarget) -> GpuBinary:
    """The binary of `function` for `target`.

    The same function gives the same binary, wherever it is compiled. Raises UnsupportedError without Triton,
    InternalError with the function's name and Triton's message if Triton cannot compile it.
    """
    triton = require_triton()
    if triton.knobs.runtime.interpret:
        raise UnsupportedError(
            "Triton compiles nothing while the variable TRITON_INTERPRET is set", code="unsupported/target"
        )
    with TRITON_LOCK:
        jit_function = load(function.text, function.name)
        try:
            compiled = _compile(jit_function, function, target)
        except Error:
            raise
        except Exception as error:
            raise InternalError(
                f"Triton cannot compile the function {function.name} for {target.name}: "
                f"{type(error).__name__}: {error}"
            ) from error
    metadata = compiled.metadata
    if metadata.profile_scratch_size:
        raise InternalError(f"the function {function.name} was compiled for profiling")
    binary, text = (compiled.asm[form] for form in _FORMS[target.backend])
    return GpuBinary(
        entry=metadata.name,
        backend=target.backend,
        arch=target.arch,
        num_warps=metadata.num_warps,
        num_ctas=metadata.num_ctas,
        shared_bytes=metadata.shared,
        parameters=tuple(function.signature.values()),
        # Triton 3.6 has no scratch for AMD GPUs.
        scratch_bytes=getattr(metadata, "global_scratch_size", 0),
        scratch_alignment=getattr(metadata, "global_scratch_align", 1),
        triton=triton.__version__,
        code=bytes(binary),
        assembly=text,
    )


def compile_functions(
    functions: Sequence[TritonFunction],
    target: GpuTarget,
    jobs: int | None = None,
    store: ByteStore | None = None,
) -> list[GpuBinary]:
    """The binaries of `functions` for `target`, in order; equal functions are compiled once.

    What `store` holds is not compiled. The rest is shared out to `jobs` processes, by default as many as
    pay; 1 compiles in this process. The result does not depend on it, nor does the error: that of
    :func:`compile_function` for the first function that has one.
    """
    if not functions:
        return []
    different = {function.digest: function for function in functions}
    keys = {digest: _key(digest, target) for digest in different}
    binaries: dict[str, GpuBinary] = {}
    for digest in different:
        found = None if store is None else store.get(keys[digest])
        if found is not None:
            binaries[digest] = GpuBinary.from_bytes(found)
    missing = [digest for digest in different if digest not in binaries]
    work = [different[digest] for digest in missing]
    workers = min(_workers_that_pay(work) if jobs is None else jobs, len(work))
    if workers > 1:
        compiled = compile_in_processes(work, target, workers)
    else:
        compiled = [compile_function(function, target) for function in work]
    for digest, binary in zip(missing, compiled):
        binaries[digest] = binary
        if store is not None:
            store.put(keys[digest], binary.to_bytes())
    return [binaries[function.digest] for function in functions]


def _workers_that_pay(functions: Sequence[TritonFunction]) -> int:
    """As many that each works twice as long as it takes to start."""
    seconds = sum(_DOT_SECONDS if "tl.dot" in function.text else _PLAIN_SECONDS for function in functions)
    return min(usable_cpus(), int(seconds / (2 * _START_SECONDS)))


def _compile(jit_function: Any, function: TritonFunction, target: GpuTarget) -> Any:
    """Triton's compiled kernel; its files live in a folder that goes at the end."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    aligned = [["tt.divisibility", _ALIGNMENT]]
    attributes = {(position,): aligned for position in range(len(function.pointers))}
    source = ASTSource(jit_function, function.signature, {}, attributes)
    options = {
        "num_warps": function.num_warps,
        "num_stages": function.num_stages,
        "enable_fp_fusion": FP_FUSION,
        "enable_reflect_ftz": FLUSH_DENORMALS,
    }
    knobs = triton.knobs
    with (
        knobs.cache.scope(),
        knobs.compilation.scope(),
        tempfile.TemporaryDirectory(prefix="dlc-triton-") as folder,
    ):
        knobs.cache.dir = folder
        # Paths of this machine would stand in the binary.
        knobs.compilation.disable_line_info = True
        return triton.compile(
            source,
            target=GPUTarget(target.backend, target.arch, target.warp_size),
            options=options,
        )


def _key(digest: str, target: GpuTarget) -> str:
    """Where a store keeps the binary of the function with that digest."""
    from triton.compiler.compiler import get_cache_invalidating_env_vars

    parts = (
        _FORMAT.decode(),
        require_triton().__version__,
        repr(sorted(get_cache_invalidating_env_vars().items())),
        f"{target.backend} {target.arch} {target.warp_size} {FP_FUSION} {FLUSH_DENORMALS}",
        digest,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()

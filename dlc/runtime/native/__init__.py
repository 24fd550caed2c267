"""The native runtime: a thread pool and the call interface of compiled models, as LLVM IR text.

``types.ll`` declares, ``pool.ll`` runs chunks on threads, ``call.ll`` holds what drivers and kernels call,
and one file an architecture supplies three small functions. ``dlc.h`` documents the interface. A process
compiles the text once (:mod:`dlc.runtime.library`); a stand-alone program links the object that
:func:`compile_runtime` returns.
"""

from __future__ import annotations

from importlib.resources import files

from dlc.errors import UnsupportedError, printable

#: What the runtime offers to drivers, kernels and callers; see dlc.h.
EXPORTS = (
    "dlc_call",
    "dlc_copy",
    "dlc_endless",
    "dlc_grow",
    "dlc_host_step",
    "dlc_launch",
    "dlc_pool_create",
    "dlc_pool_destroy",
    "dlc_pool_threads",
    "dlc_pool_wakeups",
    "dlc_release_memory",
    "dlc_report_fault",
    "dlc_reserve_scratch",
    "dlc_stopped",
)

#: Architecture, as the first part of a target triple -> the CPU that the runtime is compiled for.
_BASELINE_CPU = {"x86_64": "x86-64", "aarch64": "generic"}


def source(architecture: str) -> str:
    """The runtime's LLVM IR for "x86_64" or "aarch64". UnsupportedError for any other."""
    if architecture not in _BASELINE_CPU:
        raise UnsupportedError(
            f"the native runtime has no code for the architecture {printable(architecture)}",
            hint=f"it supports {' and '.join(sorted(_BASELINE_CPU))} under Linux",
            code="unsupported/target",
        )
    folder = files(__name__)
    names = ("types.ll", "pool.ll", "call.ll", f"{architecture}.ll")
    return "\n".join((folder / name).read_text("utf-8") for name in names)


def compile_runtime(triple: str) -> bytes:
    """The runtime as a position-independent object for `triple`, for any CPU of that architecture."""
    import llvmlite.binding as llvm

    architecture = triple.split("-", 1)[0]
    text = source(architecture)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=_BASELINE_CPU[architecture], opt=2, reloc="pic", codemodel="small"
    )
    module = llvm.parse_assembly(text)
    module.triple = triple
    module.data_layout = str(machine.target_data)
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    code: bytes = machine.emit_object(module)
    return code

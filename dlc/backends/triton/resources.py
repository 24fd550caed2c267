"""What a GPU binary uses: registers, shared memory, matrix and copy instructions.

Read from the binary and its assembly without a GPU, for the gates of tests and for reports. For CUDA with
the tools that come with Triton: `cuobjdump` reads the binary; `ptxas` assembles the PTX once more, with
Triton's options, since only its log tells what it spilled. For AMD GPUs from the metadata in the assembly.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dlc.backends.triton.binary import FP_FUSION, GpuBinary
from dlc.backends.triton.source import require_triton
from dlc.errors import InternalError

_SECONDS = 120
#: Triton passes this option to ptxas from version 3.9 on.
_REGISTER_OPTION_SINCE = (3, 9)
_REGISTER_OPTION = "--regAllocOptLevel=2"


@dataclass(frozen=True)
class Resources:
    """The resources of one function.

    `registers` of 32 bits per thread (AMD: vector registers, accumulators included); `spill_bytes` per
    thread that instructions store to and load from memory for lack of them (AMD: the area's size);
    `shared_bytes` of a block, without the KiB that CUDA reserves from sm_90 on. The others count
    instructions in the text, not executions: `wgmma` and `mma` multiply matrices (`wgmma.mma_async`;
    `mma.sync`, `tcgen05.mma` or MFMA), `async_copies` copy single vectors (`cp.async`) and `tma` tiles
    (`cp.async.bulk.tensor`). `notes` are warnings of the assembler, such as serialised matrix instructions.
    """

    registers: int
    spill_bytes: int
    shared_bytes: int
    wgmma: int
    mma: int
    async_copies: int
    tma: int
    notes: tuple[str, ...] = ()


def measure(binary: GpuBinary) -> Resources:
    """The resources of `binary`, which must have its assembly. InternalError if they cannot be read."""
    return _of_hip(binary) if binary.backend == "hip" else _of_cuda(binary)


def _of_cuda(binary: GpuBinary) -> Resources:
    log = _assembler_log(binary)
    stores = _number(binary, r"(\d+) bytes spill stores", log)
    loads = _number(binary, r"(\d+) bytes spill loads", log)
    lines = [line.strip() for line in log.splitlines()]
    return Resources(
        registers=_number(binary, r"\bREG:(\d+)", _resource_table(binary)),
        spill_bytes=stores + loads,
        shared_bytes=binary.shared_bytes,
        wgmma=_count(r"\bwgmma\.mma_async", binary),
        mma=_count(r"\b(?:mma\.sync|tcgen05\.mma)\b", binary),
        async_copies=_count(r"\bcp\.async\.c[ag]\b", binary),
        tma=_count(r"\bcp\.async\.bulk\.tensor\b", binary),
        notes=tuple(line for line in lines if re.search("warning|wgmma", line, re.IGNORECASE)),
    )


def _of_hip(binary: GpuBinary) -> Resources:
    text = binary.assembly
    return Resources(
        registers=_number(binary, r"\.vgpr_count: *(\d+)", text),
        # Scalar registers are spilled to lanes of vector registers, not to memory.
        spill_bytes=4 * _number(binary, r"\.vgpr_spill_count: *(\d+)", text),
        shared_bytes=binary.shared_bytes,
        wgmma=0,
        mma=_count(r"\bv_(?:smfmac|mfma)_", binary),
        async_copies=0,
        tma=0,
    )


def _assembler_log(binary: GpuBinary) -> str:
    """What ptxas says when it assembles the PTX as Triton had it do."""
    require_triton()
    from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability

    version = tuple(int(part) for part in binary.triton.split(".")[:2])
    options = [] if FP_FUSION else ["--fmad=false"]
    if version >= _REGISTER_OPTION_SINCE:
        options.append(_REGISTER_OPTION)
    with tempfile.TemporaryDirectory(prefix="dlc-ptxas-") as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(binary.assembly)
        architecture = sm_arch_from_capability(binary.arch)
        return _run(
            binary,
            [
                get_ptxas(binary.arch).path,
                "-v",
                *options,
                f"--gpu-name={architecture}",
                str(source),
                "-o",
                str(Path(folder, "kernel.cubin")),
            ],
        )


def _resource_table(binary: GpuBinary) -> str:
    """What cuobjdump says of the function in the binary."""
    from triton import knobs

    with tempfile.TemporaryDirectory(prefix="dlc-cuobjdump-") as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(binary.code)
        output = _run(binary, [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(path)])
    return output.partition(f"Function {binary.entry}:")[2]


def _run(binary: GpuBinary, command: list[str]) -> str:
    """Standard output and standard error of a tool."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise InternalError(f"the resources of {binary.entry} cannot be read: {detail}") from error
    return done.stdout + done.stderr


def _number(binary: GpuBinary, pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise InternalError(f"the resources of {binary.entry} cannot be read: no {pattern!r} in their text")
    return int(found[1])


def _count(pattern: str, binary: GpuBinary) -> int:
    return len(re.findall(pattern, binary.assembly))

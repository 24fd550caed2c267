"""From a model to an artifact for a GPU; a GPU is not needed for that."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlc.api.assemble import (
    REPORT_MEMBER,
    WEIGHTS_MEMBER,
    content_bytes,
    extent,
    numerics,
    pack_weights,
    symbols,
    tensor_info,
)
from dlc.api.description import KEY as DESCRIPTION, describe_model
from dlc.api.gpu.plan import Plan
from dlc.api.gpu.plan_text import from_text, to_data
from dlc.api.gpu.planner import summary
from dlc.api.report import FusionReport, HostReport, KernelReport, Report
from dlc.api.selftest import NUMERICS, Numerics
from dlc.errors import PackageError
from dlc.ir.dtypes import DType
from dlc.runtime.codec import decode, encode, parse as parse_json
from dlc.runtime.cuda import KernelBinary
from dlc.runtime.manifest import Manifest, ModelInfo, TargetCode
from dlc.runtime.package import Content, Package, package_bytes

if TYPE_CHECKING:
    from dlc.api.gpu.functions import CompiledFunctions
    from dlc.backends.triton.backend import GpuProgram
    from dlc.backends.triton.binary import GpuBinary
    from dlc.backends.triton.function import TritonFunction
    from dlc.frontend.onnx.importer import ImportedModel
    from dlc.options import Options
    from dlc.target import GpuTarget

#: The version of the plan and of how functions are launched.
GPU_ABI = 1
TRIPLE = "nvptx64-nvidia-cuda"
PLAN_MEMBER = "gpu/plan.json"
BINARIES_MEMBER = "gpu/binaries.json"


@dataclasses.dataclass(frozen=True)
class BinaryInfo:
    """What a package says of a binary, beside its code."""

    entry: str
    shared: int
    num_warps: int
    num_ctas: int
    parameters: tuple[str, ...]
    scratch: int
    scratch_alignment: int
    arch: str


@dataclasses.dataclass(frozen=True)
class GpuArtifact:
    """A model compiled for a GPU: what a package holds. `functions` are there where it was compiled."""

    manifest: Manifest
    members: Mapping[str, Content]
    plan: Plan
    binaries: tuple[KernelBinary, ...]
    constants: Sequence[memoryview]
    report: Report
    target: str
    functions: tuple[TritonFunction, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return content_bytes(self.members)

    def to_bytes(self) -> bytes:
        """The package."""
        return package_bytes(self.manifest, self.members)


def assemble_gpu(
    model: ImportedModel,
    options: Options,
    target: GpuTarget,
    compiled: CompiledFunctions,
    phases: Sequence[tuple[str, float]],
    nodes: int,
    rewrites: Sequence[tuple[str, int]],
) -> GpuArtifact:
    """The artifact of a compilation."""
    import dlc

    code, plan, functions = compiled.code, compiled.plan, compiled.functions
    binaries = tuple(map(kernel_binary, compiled.binaries))
    weights, constants = pack_weights(code.program)
    report = _report(model, target, code, plan, binaries, phases, nodes, rewrites)
    cubins = tuple(f"gpu/{number}.cubin" for number in range(len(binaries)))
    properties = {"arch": str(target.arch), "triton": "".join({b.triton for b in compiled.binaries})}
    manifest = Manifest(
        dlc=dlc.__version__,
        model=ModelInfo(model.name, model.sha256, dict(model.opsets)),
        inputs=tuple(
            tensor_info(spec.name, value.type)
            for spec, value in zip(model.inputs, model.graph.inputs, strict=True)
        ),
        outputs=tuple(
            tensor_info(name, value.type)
            for name, value in zip(model.outputs, model.graph.outputs, strict=True)
        ),
        targets=(TargetCode(target.name, TRIPLE, GPU_ABI, cubins, (), properties),),
        constants=constants,
        symbols=symbols(model, code.program),
        options=options.to_dict(),
        extra={
            NUMERICS: encode(_numerics(model, target)),
            DESCRIPTION: encode(describe_model(model)),
        },
    )
    infos = [
        BinaryInfo(**{f.name: getattr(b, f.name) for f in dataclasses.fields(BinaryInfo)}) for b in binaries
    ]
    members: dict[str, Content] = {
        WEIGHTS_MEMBER: weights,
        PLAN_MEMBER: json.dumps(to_data(plan), sort_keys=True).encode(),
        BINARIES_MEMBER: json.dumps(encode(infos), sort_keys=True).encode(),
        REPORT_MEMBER: json.dumps(dataclasses.asdict(dataclasses.replace(report, phases=()))).encode(),
        **{name: binary.code for name, binary in zip(cubins, binaries, strict=True)},
        **{f"gpu/{n}.py": function.text.encode() for n, function in enumerate(functions)},
    }
    views = [weights[c.offset : c.offset + c.size].data for c in constants]
    return GpuArtifact(manifest, members, plan, binaries, views, report, target.name, functions)


def _numerics(model: ImportedModel, target: GpuTarget) -> Numerics:
    """What decides how exact results are: tf32 has as many bits of mantissa as f16."""
    found = numerics(model)
    if target.f32_products == "tf32" and found.coarsest == DType.F32.text:
        return dataclasses.replace(found, coarsest=DType.F16.text)
    return found


def kernel_binary(compiled: GpuBinary) -> KernelBinary:
    """A binary as the runtime takes it."""
    return KernelBinary(
        compiled.entry,
        compiled.code,
        compiled.shared_bytes,
        compiled.num_warps,
        compiled.num_ctas,
        compiled.parameters,
        compiled.scratch_bytes,
        compiled.scratch_alignment,
        f"sm_{compiled.arch}",
    )


def _report(
    model: ImportedModel,
    target: GpuTarget,
    code: GpuProgram,
    plan: Plan,
    binaries: Sequence[KernelBinary],
    phases: Sequence[tuple[str, float]],
    nodes: int,
    rewrites: Sequence[tuple[str, int]],
) -> Report:
    from dlc.backends.triton.select import GpuKernel
    from dlc.lowering.program import Launch, walk

    program = code.program
    launches = []
    for step in walk(program.steps):
        kernel = code.kernels[step.kernel] if isinstance(step, Launch) else None
        if isinstance(step, Launch) and isinstance(kernel, GpuKernel):
            launches += [KernelReport(c.function.name, c.template, step.origins) for c in kernel.calls]
    return Report(
        model.name,
        target.name,
        tuple(phases),
        nodes,
        tuple(launches),
        host_kernels(plan),
        tuple(FusionReport(d.producer, d.consumer, d.fused, d.reason) for d in program.decisions),
        tuple(rewrites),
        sum(constant.data.nbytes for constant in program.constants),
        str(extent(program.arena)),
        sum(len(binary.code) for binary in binaries),
    )


def host_kernels(plan: Plan) -> tuple[HostReport, ...]:
    """The kernels of a plan that run on the host."""
    return tuple(HostReport(step.origin, "kernel", step.reason) for step in summary(plan))


def from_gpu_package(package: Package, target: TargetCode, report: Report) -> GpuArtifact:
    """The artifact that an open package holds for a GPU."""
    if target.abi != GPU_ABI:
        raise PackageError(
            f"the package has version {target.abi} of the GPU interface, not {GPU_ABI}",
            hint="compile the model again, or use the version of dlc that made the package",
        )
    members: dict[str, Any] = {n: package.member(n) for n in package.members if n != "manifest.json"}
    infos = decode(
        tuple[BinaryInfo, ...], parse_json(bytes(package.member(BINARIES_MEMBER)), "the list of binaries"), ""
    )
    codes = package.code(target)
    if len(codes) != len(infos):
        raise PackageError(f"the package has {len(codes)} binaries, and describes {len(infos)}")
    binaries = tuple(
        KernelBinary(code=bytes(code), **{f.name: getattr(info, f.name) for f in dataclasses.fields(info)})
        for info, code in zip(infos, codes)
    )
    constants = [package.constant(constant) for constant in package.manifest.constants]
    plan = from_text(bytes(package.member(PLAN_MEMBER)), len(codes))
    manifest = package.manifest
    described = (len(manifest.inputs), len(manifest.outputs), len(constants))
    if (len(plan.inputs), len(plan.outputs), plan.constants) != described:
        raise PackageError("the plan of the GPU program is not that of the package's model")
    return GpuArtifact(package.manifest, members, plan, binaries, constants, report, target.name)

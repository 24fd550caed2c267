"""From generated code to an artifact: the manifest and the members of a package, in memory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.api.description import KEY as DESCRIPTION, describe_model
from dlc.api.host_plans import plan_of, to_members
from dlc.api.host_reports import host_reports
from dlc.api.hosts import HostPlan
from dlc.api.launch_reports import launch_reports
from dlc.api.report import FusionReport, Report
from dlc.api.selftest import NUMERICS, Numerics
from dlc.errors import printable
from dlc.ir.dims import Dim, to_text
from dlc.ir.dtypes import DType
from dlc.ir.graph import ElementSource, ShapeSource
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from dlc.ir.types import TensorType, Type, element_dtype
from dlc.runtime.call import Interface, Site
from dlc.runtime.codec import encode
from dlc.runtime.manifest import (
    CONSTANT_ALIGNMENT,
    Constant,
    Manifest,
    ModelInfo,
    Symbol,
    TargetCode,
    TensorInfo,
)
from dlc.runtime.package import Content, package_bytes

if TYPE_CHECKING:
    from dlc.backends.cpu.backend import GeneratedCode
    from dlc.frontend.onnx.importer import ImportedModel
    from dlc.lowering.program import Program
    from dlc.options import Options
    from dlc.target.cpu import CpuTarget

CODE_MEMBER = "code/cpu.o"
WEIGHTS_MEMBER = "weights.bin"
INTERFACE_MEMBER = "interface.json"
#: The minimum of a symbol that may be any integer.
LEAST_INTEGER = -(1 << 63)

REPORT_MEMBER = "report.json"


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A compiled model before it is loaded: what a package holds.

    `constants` are views of the weights, aligned to 64 bytes, in the driver's order. `hosts` are the host
    steps of a model that has some. `target` names the manifest's target that `code` is for.
    """

    manifest: Manifest
    members: Mapping[str, Content]
    interface: Interface
    constants: Sequence[memoryview]
    code: bytes
    report: Report
    hosts: HostPlan | None = None
    target: str = "native"

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return content_bytes(self.members)

    def to_bytes(self) -> bytes:
        """The package."""
        return package_bytes(self.manifest, self.members)


def assemble(
    model: ImportedModel,
    options: Options,
    target: CpuTarget,
    code: GeneratedCode,
    phases: Sequence[tuple[str, float]],
    nodes: int,
    rewrites: Sequence[tuple[str, int]],
) -> Artifact:
    """The artifact of a compilation."""
    import dlc

    program = code.program
    weights, constants = pack_weights(program)
    interface = describe(model, program, code.accesses)
    report = make_report(model, target, code, phases, nodes, rewrites)
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
        targets=(
            TargetCode(
                target.name, target.triple, abi_version(), (CODE_MEMBER,), tuple(sorted(target.features))
            ),
        ),
        constants=constants,
        symbols=symbols(model, program),
        options=options.to_dict(),
        extra={NUMERICS: encode(numerics(model)), DESCRIPTION: encode(describe_model(model))},
    )
    members: dict[str, Content] = {
        CODE_MEMBER: code.object,
        WEIGHTS_MEMBER: weights,
        INTERFACE_MEMBER: json.dumps(dataclasses.asdict(interface), sort_keys=True).encode(),
        REPORT_MEMBER: json.dumps(dataclasses.asdict(dataclasses.replace(report, phases=()))).encode(),
    }
    plan = plan_of(program)
    if plan is not None:
        members |= to_members(plan)
    views = [weights[c.offset : c.offset + c.size].data for c in constants]
    return Artifact(
        manifest,
        members,
        interface,
        views,
        code.object,
        report,
        plan,
        target.name,
    )


def content_bytes(members: Mapping[str, Content]) -> int:
    """Bytes of all members."""
    return sum(
        content.nbytes if isinstance(content, np.ndarray | memoryview) else len(content)
        for content in members.values()
    )


def tensor_info(name: str, type_: Type) -> TensorInfo:
    """An input or output as a manifest holds it."""
    if isinstance(type_, TensorType):
        return TensorInfo(name, type_.dtype.text, tuple(map(extent, type_.shape)))
    return TensorInfo(name, element_dtype(type_).text, (), str(type_))


def numerics(model: ImportedModel) -> Numerics:
    """What decides how exact the results of a model can be."""
    from dlc.passes.pass_base import graphs_within

    graphs = list(graphs_within(model.graph))
    types = [value.type for graph in graphs for value in graph.values()]
    floats = {type_.dtype for type_ in types if isinstance(type_, TensorType) and type_.dtype.is_float}
    coarsest = max(floats, key=lambda dtype: (-dtype.bits, dtype.text), default=DType.F32)
    nodes = (node for graph in graphs for node in graph.nodes)
    quantized = any(isinstance(node.op, QuantizeLinear | DequantizeLinear) for node in nodes)
    return Numerics(coarsest.text, quantized)


def abi_version() -> int:
    """The version of the interface between generated code and the runtime."""
    from dlc.runtime.abi import ABI_VERSION

    return ABI_VERSION


def extent(dim: Dim) -> int | str:
    """An extent as a manifest holds it."""
    return dim if isinstance(dim, int) else to_text(dim)


def symbols(model: ImportedModel, program: Program) -> tuple[Symbol, ...]:
    """The symbols of the interface, and where their numbers come from."""
    names = {value.name: spec.name for value, spec in zip(model.graph.inputs, model.inputs, strict=True)}
    result = []
    for symbol in (*program.symbols, *program.run_symbols):
        low = LEAST_INTEGER if symbol.lo is None else symbol.lo
        source = model.graph.symbols.get(symbol) if symbol in program.symbols else None
        if source is None:
            result.append(Symbol(symbol.name, low, symbol.hi))
            continue
        name = names.get(source.value)
        if isinstance(source, ShapeSource):
            result.append(Symbol(symbol.name, low, symbol.hi, name, axis=source.axis))
        else:
            element = source.index if isinstance(source, ElementSource) and name is not None else None
            result.append(Symbol(symbol.name, low, symbol.hi, name, element=element))
    return tuple(result)


def pack_weights(program: Program) -> tuple[np.ndarray[Any, Any], tuple[Constant, ...]]:
    """All constants in one aligned block of memory, and where each lies."""
    import hashlib

    offsets: list[int] = []
    total = 0
    for constant in program.constants:
        offsets.append(total)
        total += -(-constant.data.nbytes // CONSTANT_ALIGNMENT) * CONSTANT_ALIGNMENT
    raw = np.zeros(total + CONSTANT_ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % CONSTANT_ALIGNMENT
    block = raw[start : start + total]
    entries = []
    for index, (constant, offset) in enumerate(zip(program.constants, offsets, strict=True)):
        data = np.ascontiguousarray(constant.data).reshape(-1).view(np.uint8)
        block[offset : offset + data.size] = data
        entries.append(
            Constant(
                f"{index} {printable(constant.name, 80)}",
                WEIGHTS_MEMBER,
                offset,
                data.size,
                hashlib.sha256(data.data).hexdigest(),
            )
        )
    return block, tuple(entries)


def describe(model: ImportedModel, program: Program, accesses: tuple[str, ...] = ()) -> Interface:
    """What the runtime must know of the driver."""
    from dlc.lowering.program import Buffer, Launch, Repeat, StorageKind, walk

    kernels = []
    for step in walk(program.steps):
        origin = ", ".join(step.origins) if isinstance(step, Launch | Repeat) else ""
        kernels.append(Site(f"node {origin}" if origin else "a step", origin or None))
    grown = [
        place.storage.index
        if isinstance(place, Buffer) and place.storage.kind is StorageKind.GROWN
        else -1
        for place in program.outputs
    ]
    return Interface(
        symbols=tuple(symbol.name for symbol in program.symbols),
        elements=tuple(
            symbol.name
            for symbol in program.symbols
            if not isinstance(model.graph.symbols[symbol], ShapeSource)
        ),
        inputs=len(program.inputs),
        output_ranks=tuple(p.type.rank if isinstance(p, Buffer) else 0 for p in program.outputs),
        run_symbols=len(program.run_symbols),
        storages=program.storages,
        grown=tuple(grown) if max(grown, default=-1) >= 0 else (),
        guards=tuple(Site(guard.message, guard.origin or None) for guard in program.guards),
        kernels=tuple(kernels),
        accesses=accesses,
    )


def make_report(
    model: ImportedModel,
    target: CpuTarget,
    code: GeneratedCode,
    phases: Sequence[tuple[str, float]],
    nodes: int,
    rewrites: Sequence[tuple[str, int]],
) -> Report:
    """The report of a compilation."""
    program = code.program
    hosts = host_reports(program)
    fusions = tuple(FusionReport(d.producer, d.consumer, d.fused, d.reason) for d in program.decisions)
    return Report(
        model.name,
        target.name,
        tuple(phases),
        nodes,
        launch_reports(code),
        hosts,
        fusions,
        tuple(rewrites),
        sum(c.data.nbytes for c in program.constants),
        str(extent(program.arena)),
        len(code.object),
    )

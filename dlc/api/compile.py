"""dlc.compile: from a model to something that runs."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from dlc.api.assemble import Artifact, assemble
from dlc.api.host_reports import host_reports
from dlc.api.isolation import reproducer
from dlc.api.load import from_package_bytes, open_model
from dlc.api.model import CompiledModel
from dlc.api.report import CheckReport, HostReport
from dlc.errors import Error, Finding, InputError, InternalError, UnsupportedError, printable
from dlc.limits import Limits
from dlc.options import Options, ShapeSpec
from dlc.target.cpu import CpuTarget

if TYPE_CHECKING:
    from dlc.api.gpu.build import GpuArtifact
    from dlc.frontend.onnx.importer import ImportedModel
    from dlc.lowering.program import Program
    from dlc.target import GpuTarget

Source: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Any"
Progress: TypeAlias = Callable[[str], None]

logger = logging.getLogger("dlc")
#: Most nodes on the host that are logged one by one.
_MOST_LOGGED = 100


def compile(
    source: Source,
    *,
    target: str | Sequence[str] = "native",
    shapes: Mapping[str, ShapeSpec] | None = None,
    precision: str = "model",
    accuracy: str = "default",
    optimize: int = 2,
    threads: int | None = None,
    strict: bool = False,
    memory: str = "default",
    outputs: Sequence[str] | None = None,
    alias: Mapping[str, str] | None = None,
    tune: bool = False,
    cache: bool = True,
    debug_codegen: bool = False,
    isolate: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
    external_data_dir: str | os.PathLike[str] | None = None,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
) -> CompiledModel:
    """Compile an ONNX model (path, bytes, binary file or ModelProto) for this machine or a named target.

    A torch.nn.Module is exported by torch.onnx for arguments like `example_inputs` (a tuple, or a dictionary
    by name), with `dynamic_shapes` as torch.export takes them (dims also by name: ``({0: "batch"},)``); the
    result, a CompiledModule, is called as the module is.

    The options are those of :class:`dlc.Options`. `progress` is called with the name of each phase as it
    begins. Raises ModelError, UnsupportedError (with all findings), InputError, LimitError, ResourceError.
    """
    given: dict[str, Any] = {
        "target": target,
        "shapes": shapes,
        "precision": precision,
        "accuracy": accuracy,
        "optimize": optimize,
        "threads": threads,
        "strict": strict,
        "memory": memory,
        "outputs": outputs,
        "alias": alias,
        "tune": tune,
        "cache": cache,
        "debug_codegen": debug_codegen,
        "isolate": isolate,
        "limits": Limits() if limits is None else limits,
        "external_data_dir": external_data_dir,
    }
    options, report = Options(**given), progress or (lambda _: None)
    if _is_module(source):
        from dlc.api.torch.module import compile_module

        return compile_module(source, example_inputs, dynamic_shapes, options, report)
    if example_inputs is not None or dynamic_shapes is not None:
        raise InputError(
            f"example_inputs and dynamic_shapes are for torch modules, not for {type(source).__name__}",
            hint="the inputs of an ONNX model have types and shapes; fix or bound them with shapes=",
            code="input/option",
        )
    return compile_hooked(source, options, report)


def _is_module(source: Any) -> bool:
    """Whether `source` is a torch module, without an import of torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


@dataclasses.dataclass(frozen=True)
class Hooks:
    """How to look into a compilation; it then leaves the compile cache out.

    `skip` names passes to leave out. `dump` receives a file name and the text of each form of the model.
    """

    skip: tuple[str, ...] = ()
    dump: Callable[[str, str], None] | None = None

    @property
    def any(self) -> bool:
        """Whether there is anything to look into."""
        return bool(self.skip) or self.dump is not None


def compile_hooked(
    source: Source,
    options: Options,
    progress: Progress,
    hooks: Hooks | None = None,
    make: Callable[..., CompiledModel] = open_model,
) -> CompiledModel:
    """:func:`compile` with its options as an object, `hooks`, and a class to make of the artifact."""
    try:
        artifact = build(source, options, progress, hooks or Hooks())
        log_hosts(artifact.manifest.model.name, artifact.report.hosts)
        return make(artifact, threads=options.threads)
    except InternalError as error:
        hint = reproducer(source)
        raise InternalError(error.message, node=error.node, hint=hint, code=error.code) from error
    except (Error, MemoryError):
        raise
    except Exception as error:
        message = f"compilation failed: {type(error).__name__}: {error}"
        raise InternalError(message, hint=reproducer(source)) from error


@dataclasses.dataclass
class _Clock:
    """Times the phases of a compilation."""

    progress: Progress
    phases: list[tuple[str, float]] = dataclasses.field(default_factory=list)

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """`work()`, timed under `name`."""
        self.progress(name)
        start = time.perf_counter()
        result = work()
        self.phases.append((name, time.perf_counter() - start))
        return result


def build(source: Source, options: Options, progress: Progress, hooks: Hooks) -> Artifact | GpuArtifact:
    """Everything that a compiled model consists of, in memory or from the compile cache."""
    from dlc.api import cached

    refuse_unavailable(options)
    target = find_target(options.targets[0])
    if options.precision == "tf32" and not isinstance(target, CpuTarget):
        target = dataclasses.replace(target, f32_products="tf32")
    clock = _Clock(progress)
    use_cache = options.cache and not hooks.any
    key = clock.run("hash", lambda: cached.key(source, options, target)) if use_cache else None
    if key is not None:
        found = cached.find(key)
        if found is not None:
            artifact: Artifact | GpuArtifact = clock.run("cache", lambda: from_package_bytes(found))
            report = dataclasses.replace(artifact.report, phases=tuple(clock.phases))
            return dataclasses.replace(artifact, report=report)
    if options.isolate:
        return _isolated(source, options, clock, hooks)
    artifact, is_self_contained = _compile(source, options, target, clock, hooks)
    # A model with external data is compiled every time: its weights may change without the file.
    if key is not None and is_self_contained:
        cached.store(key, artifact)
    return artifact


def find_target(name: str) -> CpuTarget | GpuTarget:
    """The target called `name`; InputError for an unknown one."""
    from dlc.target import resolve, resolve_gpu

    return resolve_gpu(name) if name.startswith("cuda") else resolve(name)


def _isolated(
    source: Source, options: Options, clock: _Clock, hooks: Hooks
) -> Artifact | GpuArtifact:
    """The artifact, made by a child process."""
    from dlc.api.isolation import compile_in_child

    if hooks.any:
        message = "isolate=True compiles in another process, which cannot be looked into"
        raise InputError(message, code="input/option")
    artifact = compile_in_child(source, options, clock.progress)
    clock.phases += artifact.report.phases
    report = dataclasses.replace(artifact.report, phases=tuple(clock.phases))
    return dataclasses.replace(artifact, report=report)


def refuse_unavailable(options: Options) -> None:
    """UnsupportedError for options that this version defines but does not carry out: none is ever ignored."""
    reasons = []
    if len(options.targets) != 1:
        reasons.append("a package for several targets")
    if options.precision == "tf32" and not options.targets[0].startswith("cuda"):
        reasons.append("precision='tf32' for a CPU")
    if options.accuracy == "fast":
        reasons.append("accuracy='fast'")
    if options.alias:
        reasons.append("alias")
    if options.tune and not options.targets[0].startswith("cuda"):
        reasons.append("tune=True for a CPU")
    if options.debug_codegen and options.targets[0].startswith("cuda"):
        reasons.append("debug_codegen=True for a GPU")
    if reasons:
        raise UnsupportedError(
            f"this version of dlc does not offer {', '.join(reasons)}",
            hint="leave these options at their defaults",
            code="unsupported",
        )


def _compile(
    source: Source, options: Options, target: CpuTarget | GpuTarget, clock: _Clock, hooks: Hooks
) -> tuple[Artifact | GpuArtifact, bool]:
    """The artifact, and whether the model needs no data outside of `source`."""
    from dlc.frontend.onnx.importer import import_model
    from dlc.ir.text import to_text
    from dlc.lowering.lower import lower
    from dlc.lowering.program_text import decisions_text, program_text
    from dlc.passes.pipeline import default_pipeline, gpu_pipeline

    model = clock.run(
        "import",
        lambda: import_model(
            source,
            shapes=options.shapes,
            limits=options.limits,
            external_data_dir=options.external_data_dir,
            outputs=options.outputs,
        ),
    )
    nodes = len(model.graph.nodes)
    of_target = default_pipeline if isinstance(target, CpuTarget) else gpu_pipeline
    pipeline = of_target(options.optimize, options.limits, options.precision).without(*hooks.skip)
    dump = hooks.dump
    if dump is not None:
        dump("00-import.ir", to_text(model.graph, digests=False))
    results = clock.run("optimize", lambda: pipeline.run(model.graph, dump=_numbered(dump)))
    red_zone = 0
    if options.debug_codegen:
        from dlc.backends.cpu.backend import RED_ZONE

        red_zone = RED_ZONE
    program = clock.run("lower", lambda: lower(model.graph, options.limits, red_zone=red_zone))
    if dump is not None:
        dump("program.txt", program_text(program))
        dump("fusion.txt", decisions_text(program))
    if options.strict:
        refuse_hosts(host_reports(program))
    rewrites = [
        (f"{step.name}: {rule}", count)
        for step, statistics, _ in results.steps
        for rule, count in sorted(statistics.rewrites.items())
    ]
    made = _Made(model, options, program, clock, nodes, rewrites, dump)
    artifact = _cpu_code(made, target) if isinstance(target, CpuTarget) else _gpu_code(made, target)
    passes = tuple((str(step), seconds) for step, _, seconds in results.steps)
    report = dataclasses.replace(artifact.report, passes=passes, phases=tuple(clock.phases))
    return dataclasses.replace(artifact, report=report), not model.has_external_data


@dataclasses.dataclass(frozen=True)
class _Made:
    """What a compilation has made before code generation."""

    model: ImportedModel
    options: Options
    program: Program
    clock: _Clock
    nodes: int
    rewrites: Sequence[tuple[str, int]]
    dump: Callable[[str, str], None] | None


def _cpu_code(made: _Made, target: CpuTarget) -> Artifact:
    from dlc.backends.cpu.backend import generate
    from dlc.backends.cpu.policy import Policy

    options, clock = made.options, made.clock
    policy = Policy.of(options.accuracy, options.memory)
    debug = options.debug_codegen
    code = clock.run(
        "generate", lambda: generate(made.program, target, options.limits, policy, debug=debug)
    )
    if made.dump is not None:
        made.dump("module.ll", code.text)
    return assemble(made.model, options, target, code, clock.phases, made.nodes, made.rewrites)


def _gpu_code(made: _Made, target: GpuTarget) -> GpuArtifact:
    from dlc.api.gpu.build import assemble_gpu
    from dlc.api.gpu.functions import compile_program
    from dlc.api.gpu.tuning import choices_for
    from dlc.runtime.cache import default_cache

    options, clock = made.options, made.clock
    choices = clock.run("choose", lambda: choices_for(made.program, target, options))
    store = default_cache() if options.cache else None
    compiled = clock.run("generate", lambda: compile_program(made.program, target, choices, store))
    artifact = assemble_gpu(
        made.model, options, target, compiled, clock.phases, made.nodes, made.rewrites
    )
    if made.dump is not None:
        for number, function in enumerate(artifact.functions):
            made.dump(f"function-{number:03d}.py", function.text)
    if made.options.strict:
        refuse_hosts(artifact.report.hosts)
    return artifact


def _numbered(dump: Callable[[str, str], None] | None) -> Callable[[str, str], None] | None:
    """`dump` for the texts after passes, which come as "00-dead-code" and become files from 01 on."""
    if dump is None:
        return None

    def after(name: str, text: str) -> None:
        number, _, step = name.partition("-")
        dump(f"{int(number) + 1:02d}-{step}.ir", text)

    return after


def refuse_hosts(hosts: Sequence[HostReport]) -> None:
    """UnsupportedError when a step runs on the host."""
    if hosts:
        findings = tuple(
            Finding(
                node=h.node,
                operator=h.operator,
                domain="",
                opset=0,
                dtypes=(),
                shapes=(),
                reason=h.reason,
                hint=f"compile without strict=True to run it on the host ({h.cost} a call)",
            )
            for h in hosts
        )
        count = "1 node has" if len(hosts) == 1 else f"{len(hosts)} nodes have"
        raise UnsupportedError(f"{count} no native kernel", findings=findings, code="unsupported/strict")


def log_hosts(model: str, hosts: Sequence[HostReport]) -> None:
    """Say which nodes run on the host: a warning for the model, the nodes one by one as information."""
    if not hosts:
        return
    count = f"{len(hosts)} node{'s run' if len(hosts) > 1 else ' runs'}"
    first = printable(str(hosts[0]), 500)
    others = f"; and {len(hosts) - 1} more" if len(hosts) > 1 else ""
    logger.warning("%s: %s on the host, in Python: %s%s", printable(model), count, first, others)
    for host in hosts[1:_MOST_LOGGED]:
        logger.info("%s: on the host: %s", printable(model), printable(str(host), 500))


def check(
    source: Source,
    *,
    target: str = "native",
    shapes: Mapping[str, ShapeSpec] | None = None,
    limits: Limits | None = None,
    external_data_dir: str | os.PathLike[str] | None = None,
) -> CheckReport:
    """What keeps a model from being compiled, all at once, and what would run on the host.

    For a GPU that are kernels without a function, too. Raises InputError for an unknown target, and
    UnsupportedError for "cuda" where there is no GPU.
    """
    from dlc.frontend.onnx.importer import import_model
    from dlc.lowering.lower import lower
    from dlc.passes.pipeline import default_pipeline, gpu_pipeline

    found = find_target(target)
    try:
        model = import_model(source, shapes=shapes, limits=limits, external_data_dir=external_data_dir)
    except UnsupportedError as error:
        return CheckReport("", 0, {}, error.findings, ())
    nodes = len(model.graph.nodes)
    pipeline = default_pipeline() if isinstance(found, CpuTarget) else gpu_pipeline()
    pipeline.run(model.graph)
    try:
        program = lower(model.graph)
        hosts = host_reports(program) if isinstance(found, CpuTarget) else _gpu_hosts(program, found)
    except UnsupportedError as error:
        findings = error.findings or (Finding("", "", "", 0, (), (), error.message, error.hint),)
        return CheckReport(model.name, nodes, dict(model.opsets), findings, ())
    return CheckReport(model.name, nodes, dict(model.opsets), (), hosts)


def _gpu_hosts(program: Program, target: GpuTarget) -> tuple[HostReport, ...]:
    """The kernels that would run on the host beside a GPU; UnsupportedError if a node cannot run at all."""
    from dlc.api.gpu.build import host_kernels
    from dlc.api.gpu.planner import make_plan
    from dlc.backends.triton.backend import generate

    plan, _ = make_plan(generate(program, target))
    return host_kernels(plan)

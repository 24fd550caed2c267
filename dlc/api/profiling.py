"""Takes profiles: runs a model some times, and sums up what was recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from dlc.api.hosts import Evaluate, HostPlan, HostStep, Measure
from dlc.api.profile import Event, HostProfile, KernelProfile, Profile, share_of_roof
from dlc.api.report import KernelReport, WorkReport
from dlc.errors import Error, InputError, PackageError, UnsupportedError
from dlc.ir.dims import Symbol, evaluate, parse
from dlc.runtime.call import NativeModel, PreparedCall
from dlc.runtime.profile import Launch, Recording

if TYPE_CHECKING:
    from dlc.api.assemble import Artifact
    from dlc.api.roof import Roof

_NANOSECOND = 1e-9
#: Runs before those that count: the pool starts, memory is touched for the first time.
_WARM_UP = 2

#: Which function of which step.
_Key = tuple[int, str]


def profile_model(
    artifact: Artifact,
    native: NativeModel,
    call: PreparedCall,
    symbols: Mapping[str, Symbol],
    runs: int,
    measure_roof: bool,
) -> Profile:
    """The profile of `call`, a prepared call of `native`, which was loaded from `artifact`.

    `symbols` are those of the artifact's dims by name, in the order of their numbers.
    """
    if runs < 1:
        raise InputError("a profile needs at least one run", code="input/option")
    program = _Program(artifact, native)
    for _ in range(_WARM_UP):
        call()
    totals = _Totals(program)
    recording = Recording(0, 0, (), ())
    for _ in range(runs):
        recording = call.record()
        totals.add(recording)
    roof = None
    if measure_roof:
        from dlc.api.roof import roof as roof_of

        roof = roof_of(native.threads)
    return totals.profile(_Works(symbols, call.state().symbols), roof, recording)


class _Program:
    """What the recorded numbers of steps and addresses stand for."""

    def __init__(self, artifact: Artifact, native: NativeModel) -> None:
        self.model = artifact.manifest.model.name
        self.target = artifact.target
        self.threads = native.threads
        self.kernels = {(kernel.step, kernel.function): kernel for kernel in artifact.report.kernels}
        self.hosts = _host_names(artifact.hosts)
        functions: dict[int, list[str]] = {}
        for kernel in artifact.report.kernels:
            if kernel.step < 0:
                raise UnsupportedError(
                    "the package was made by a dlc that knew no profiles", hint="compile the model again"
                )
            functions.setdefault(kernel.step, []).append(kernel.function)
        self._only = {step: names[0] for step, names in functions.items() if len(names) == 1}
        several = {name for names in functions.values() if len(names) > 1 for name in names}
        self._named = {native.library.address(name): name for name in several}

    def key(self, launch: Launch) -> _Key:
        """Which function a launch ran."""
        only = self._only.get(launch.step)
        return launch.step, self._named[launch.kernel] if only is None else only


def _host_names(plan: HostPlan | None) -> dict[int, str]:
    """What each host step is, by number."""
    return {} if plan is None else {number: _host_name(step) for number, step in plan.steps.items()}


def _host_name(step: HostStep) -> str:
    match step:
        case Evaluate():
            return step.node or "from an object to memory"
        case Measure():
            return "the size of an object"
    return "a reference to an object"


class _Works:
    """The work of launches for one set of numbers of the symbols."""

    def __init__(self, symbols: Mapping[str, Symbol], numbers: Sequence[int]) -> None:
        self._symbols = symbols
        self._env = dict(zip(symbols, numbers, strict=False))

    def of(self, work: WorkReport) -> dict[str, int] | None:
        """The numbers by name; None where a size is undefined. PackageError for damaged texts."""
        try:
            texts = {"flops": work.flops, "reads": work.reads, "writes": work.writes}
            return {
                name: evaluate(parse(text, self._symbols), self._env) for name, text in texts.items()
            }
        except ZeroDivisionError:
            return None
        except Error as error:
            raise PackageError(f"the package's report is damaged: {error.message}") from None


class _Totals:
    """The times of launches and host steps, summed up run by run."""

    def __init__(self, program: _Program) -> None:
        self._program = program
        self._kernels: dict[_Key, list[int]] = {key: [] for key in program.kernels}
        self._hosts: dict[int, list[int]] = {step: [] for step in program.hosts}
        self._between: list[int] = []
        self._whole: list[int] = []

    def add(self, run: Recording) -> None:
        """Take in a run."""
        kernels: Counter[_Key] = Counter()
        hosts: Counter[int] = Counter()
        for launch in run.launches:
            kernels[self._program.key(launch)] += launch.end - launch.start
        for call in run.hosts:
            hosts[call.step] += call.end - call.start
        for key, times in self._kernels.items():
            times.append(kernels[key])
        for step, times in self._hosts.items():
            times.append(hosts[step])
        self._whole.append(run.end - run.start)
        self._between.append(max(run.end - run.start - kernels.total() - hosts.total(), 0))

    def profile(self, works: _Works, roof: Roof | None, last: Recording) -> Profile:
        """The profile; calls, sizes and events are those of the `last` run."""
        program = self._program
        kernel_times = {key: median(times) for key, times in self._kernels.items()}
        host_times = {step: median(times) for step, times in self._hosts.items()}
        between = median(self._between)
        all_times = sum(kernel_times.values()) + sum(host_times.values()) + between or 1
        kernel_calls = Counter(map(program.key, last.launches))
        host_calls = Counter(call.step for call in last.hosts)
        kernels = {
            key: _kernel(report, kernel_calls[key], kernel_times[key], all_times, works, roof)
            for key, report in program.kernels.items()
        }
        hosts = {
            step: HostProfile(step, name, host_calls[step], time * _NANOSECOND, time / all_times)
            for (step, name), time in zip(program.hosts.items(), host_times.values(), strict=True)
        }
        zero = last.start
        events = [
            Event(kernels[program.key(launch)], launch.start - zero, launch.end - zero, launch.chunks)
            for launch in last.launches
        ]
        events += [Event(hosts[call.step], call.start - zero, call.end - zero) for call in last.hosts]
        return Profile(
            model=program.model,
            target=program.target,
            threads=program.threads,
            runs=len(self._whole),
            seconds=median(self._whole) * _NANOSECOND,
            kernels=tuple(sorted(kernels.values(), key=lambda kernel: -kernel.seconds)),
            hosts=tuple(sorted(hosts.values(), key=lambda host: -host.seconds)),
            overhead=between * _NANOSECOND,
            overhead_share=between / all_times,
            events=tuple(events),
            last_ns=last.end - zero,
            roof=roof,
            lost=last.lost,
        )


def _kernel(
    report: KernelReport, calls: int, time: float, all_times: float, works: _Works, roof: Roof | None
) -> KernelProfile:
    """The profile of a launch that took `time` nanoseconds in all of its `calls`."""
    work = works.of(report.work) if report.work is not None and calls else None
    share, bound = None, ""
    if work is not None and report.work is not None and roof is not None:
        share, bound = share_of_roof(roof, time * _NANOSECOND / calls, work, report.work.dtype)
    seconds, part = time * _NANOSECOND, time / all_times
    flops = None if work is None else work["flops"] * calls
    moved = None if work is None else (work["reads"] + work["writes"]) * calls
    return KernelProfile(
        report.step, report.function, report.template, report.nodes, calls, seconds, part, flops, moved,
        share, bound,
    )  # fmt: skip

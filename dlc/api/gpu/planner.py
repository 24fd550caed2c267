"""From the generated functions of a program to a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dlc.api.gpu import plan as p
from dlc.backends.triton.backend import GpuProgram, HostKernel
from dlc.backends.triton.function import TritonFunction
from dlc.backends.triton.function_builder import FAULT, MOST_ELEMENTS, Call
from dlc.backends.triton.select import GpuKernel
from dlc.errors import Finding, UnsupportedError
from dlc.ir.dims import Dim, Symbol, bounds, ceildiv, free_symbols, maximum, product
from dlc.ir.types import TensorType
from dlc.lowering import program as lowered
from dlc.lowering.text import to_text

#: Alignment of what lies in one memory, in bytes; that of the arena.
ALIGNMENT = 64
#: Bytes between the reports of faults: kernels take pointers at multiples of 16.
FAULT_BYTES = 16
_KINDS = {
    lowered.StorageKind.INPUT: p.INPUT,
    lowered.StorageKind.OUTPUT: p.OUTPUT,
    lowered.StorageKind.CONSTANT: p.CONSTANT,
    lowered.StorageKind.ARENA: p.ARENA,
    lowered.StorageKind.GROWN: p.GROWN,
}


def make_plan(code: GpuProgram) -> tuple[p.Plan, tuple[TritonFunction, ...]]:
    """The plan of a program, and the functions that it launches by number.

    Raises UnsupportedError, with all findings, for nodes that only the host can compute.
    """
    _refuse_hosts(code.program)
    return _Planner(code).run()


def _refuse_hosts(program: lowered.Program) -> None:
    steps = [s for s in lowered.walk(program.steps) if isinstance(s, lowered.HostStep)]
    findings = tuple(
        Finding(
            node=", ".join(step.node.origin),
            operator=type(step.node.op).__name__,
            domain="",
            opset=0,
            dtypes=(),
            shapes=(),
            reason=step.reason,
            hint="compile the model for the CPU",
        )
        for step in steps
        if isinstance(step, lowered.Host)
    )
    if steps or program.objects:
        raise UnsupportedError(
            "a GPU program has no strings, sequences or other objects of Python",
            findings=findings,
            code="unsupported/target",
        )


class _Planner:
    def __init__(self, code: GpuProgram) -> None:
        self.code = code
        self.program = code.program
        self.functions: dict[str, tuple[int, TritonFunction]] = {}
        self.fault_origins: list[str] = []
        #: Bytes of each workspace: of a kernel's first one, its second one, ...
        self.workspaces: list[Dim] = []
        #: Pairs of workspaces that change places.
        self.swapped: list[set[int]] = []
        self.symbols: dict[str, Symbol] = {}

    def run(self) -> tuple[p.Plan, tuple[TritonFunction, ...]]:
        program = self.program
        steps = self._steps(program.steps)
        self._equal_sizes()
        guards = tuple(
            p.Condition(g.relation.value, self._dim(g.left), self._dim(g.right), g.message, g.origin)
            for g in program.guards
        )
        inputs, outputs = self._tensors(program.inputs), self._tensors(program.outputs)
        arena = self._dim(program.arena)
        for symbol in (*program.symbols, *program.run_symbols):
            self.symbols.setdefault(symbol.name, symbol)
        plan = p.Plan(
            symbols=tuple(symbol.name for symbol in program.symbols),
            ranges={name: (symbol.lo, symbol.hi) for name, symbol in self.symbols.items()},
            guards=guards,
            entry_guards=program.entry_guards,
            inputs=inputs,
            outputs=outputs,
            constants=len(program.constants),
            arena=arena,
            workspaces=tuple(self.workspaces),
            growing=program.storages,
            fault_origins=tuple(self.fault_origins),
            steps=steps,
        )
        return plan, tuple(function for _, function in self.functions.values())

    # --- dims and places

    def _dim(self, dim: Dim) -> Dim:
        """`dim`, whose symbols the plan thereby speaks of."""
        for symbol in free_symbols(dim):
            self.symbols.setdefault(symbol.name, symbol)
        return dim

    def _dims(self, dims: Iterable[Dim]) -> tuple[Dim, ...]:
        return tuple(map(self._dim, dims))

    def _place(self, buffer: lowered.Buffer, offset: Dim = 0) -> p.Place:
        storage = buffer.storage
        return p.Place(_KINDS[storage.kind], storage.index, self._dim(buffer.offset + offset))

    def _tensors(self, places: Sequence[lowered.Place]) -> tuple[p.Tensor, ...]:
        return tuple(
            p.Tensor(self._place(buffer), buffer.type.dtype.text, self._dims(buffer.type.shape))
            for buffer in lowered.buffers(places)
        )

    # --- steps

    def _steps(self, steps: Sequence[lowered.Step]) -> tuple[p.Step, ...]:
        return tuple(planned for step in steps for planned in self._step(step))

    def _step(self, step: lowered.Step) -> Iterable[p.Step]:
        match step:
            case lowered.Launch():
                yield from self._launch(step)
            case lowered.Bind(symbol, buffer, index):
                self._dim(symbol)
                place = self._place(buffer, index * buffer.type.dtype.itemsize)
                yield p.Bind(symbol.name, place, buffer.type.dtype.text)
            case lowered.Check(guard, _):
                yield p.Check(self.program.guards.index(guard))
            case lowered.Set(symbols, values):
                self._dims(symbols)
                yield p.Set(tuple(symbol.name for symbol in symbols), self._dims(values))
            case lowered.Grow(storage, size):
                yield p.Grow(storage.index, self._dim(size))
            case lowered.Copy(source, target):
                size = product(source.type.shape) * source.type.dtype.itemsize
                yield p.Copy(self._place(source), self._place(target), self._dim(size))
            case lowered.Branch():
                yield p.Branch(
                    self._place(step.condition),
                    self._steps(step.then),
                    self._steps(step.otherwise),
                    tuple(symbol.name for symbol in self._dims(step.symbols) if isinstance(symbol, Symbol)),
                )
            case lowered.Repeat():
                yield self._repeat(step)

    def _repeat(self, step: lowered.Repeat) -> p.Repeat:
        self._dims((step.number, *step.symbols))
        condition, counter, again = (
            None if buffer is None else self._place(buffer)
            for buffer in (step.condition, step.counter, step.again)
        )
        return p.Repeat(
            None if step.trip is None else self._dim(step.trip),
            condition,
            step.number.name,
            counter,
            self._steps(step.body),
            again,
            tuple(symbol.name for symbol in step.symbols),
            step.limit,
            ", ".join(step.origins),
        )

    def _launch(self, step: lowered.Launch) -> Iterable[p.Step]:
        kernel = self.code.kernels[step.kernel]
        origin = ", ".join(step.origins)
        places = [self._place(buffer) for buffer in step.buffers]
        if isinstance(kernel, HostKernel):
            text = to_text(self.program.kernels[step.kernel])
            yield p.Evaluate(text, tuple(places), origin, kernel.reason)
            return
        params = self.program.kernels[step.kernel].params
        memory = dict(zip((param.name for param in params), places, strict=True))
        numbers = {space.name: number for number, space in enumerate(kernel.workspaces)}
        yield from self._reserve(kernel)
        for name, number in numbers.items():
            memory[name] = p.Place(p.WORKSPACE, number, 0)
        elements = _greatest([*(param.type for param in params), *(s.type for s in kernel.workspaces)])
        for action in kernel.actions:
            if isinstance(action, Call):
                yield self._call(action, memory, origin, elements)
                continue
            # The axis is a symbol of the calls, and no other kernel's.
            swapped = tuple((numbers[one], numbers[other]) for one, other in action.swapped)
            self.swapped += map(set, swapped)
            body = tuple(self._call(call, memory, origin, elements) for call in action.calls)
            yield p.Recur(action.axis, self._dim(action.extent), action.reverse, body, swapped)

    def _reserve(self, kernel: GpuKernel) -> Iterable[p.Step]:
        """Have memories that are large enough for the workspaces of a kernel, in their order."""
        sizes = [self._dim(space.type.elements * space.type.dtype.itemsize) for space in kernel.workspaces]
        sizes = [ceildiv(size, ALIGNMENT) * ALIGNMENT for size in sizes]
        self.workspaces += [0] * (len(sizes) - len(self.workspaces))
        known = {symbol.name for symbol in self.program.symbols}
        if any(symbol.name not in known for size in sizes for symbol in free_symbols(size)):
            yield p.Reserve(tuple(sizes))
            return
        for number, size in enumerate(sizes):
            self.workspaces[number] = maximum(self.workspaces[number], size)

    def _equal_sizes(self) -> None:
        """Make workspaces that change places equally large: each may have to hold what the other does."""
        groups: list[set[int]] = []
        for pair in self.swapped:
            members = [group for group in groups if group & pair]
            groups = [group for group in groups if not group & pair]
            groups.append(pair.union(*members))
        for group in groups:
            size = maximum(*(self.workspaces[number] for number in sorted(group)))
            for number in group:
                self.workspaces[number] = size

    def _call(self, call: Call, memory: Mapping[str, p.Place], origin: str, elements: Dim) -> p.Launch:
        function = call.function
        if function.index == "i64":
            elements = 0
        number, _ = self.functions.setdefault(function.digest, (len(self.functions), function))
        pointers = []
        for name in call.pointers:
            if name == FAULT:
                pointers.append(p.Place(p.FAULTS, 0, len(self.fault_origins) * FAULT_BYTES))
                self.fault_origins.append(origin)
            else:
                pointers.append(memory[name])
        return p.Launch(
            number,
            self._dims(function.grid),
            tuple(pointers),
            self._dims(call.scalars),
            origin,
            self._dim(elements),
            0 if elements == 0 else MOST_ELEMENTS,
        )


def _greatest(types: Iterable[TensorType]) -> Dim:
    """The elements of the greatest tensor; 0 if no index of 32 bits is too small for any, for sure."""
    sizes = [product(type_.physical_shape) for type_ in types]
    return maximum(0, 0, *(n for n in sizes if (bounds(n)[1] or MOST_ELEMENTS + 1) > MOST_ELEMENTS))


def summary(plan: p.Plan) -> list[p.Evaluate]:
    """The kernels that run on the host."""
    found: list[p.Evaluate] = []
    stack: list[p.Step] = list(plan.steps)
    while stack:
        step = stack.pop()
        match step:
            case p.Evaluate():
                found.append(step)
            case p.Branch():
                stack += (*step.then, *step.otherwise)
            case p.Repeat():
                stack += step.body
    return found

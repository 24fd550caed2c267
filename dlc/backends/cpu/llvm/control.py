"""Loops and branches as context managers."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from dlc.backends.cpu import types as t
from dlc.backends.cpu.llvm.emitter import Lines, Scope
from dlc.backends.cpu.llvm.integer import IntegerOps
from dlc.errors import InternalError


class Loop:
    """A loop while and after it is written.

    `iv` is the induction variable (None for :meth:`ControlOps.repeat`), `carried` the values at the start
    of the trip; the body sets `next` to those of the next trip; after the loop, `results` holds the last
    ones. `scope` is for :meth:`Emitter.before` (None where the loop was unrolled into straight line).
    """

    def __init__(self, iv: t.Index, carried: Sequence[t.Value], scope: Scope | None) -> None:
        self.iv = iv
        self.carried = tuple(carried)
        self.next: Sequence[t.Operand] = ()
        self.again: t.Value | None = None
        self.results: tuple[t.Value, ...] = ()
        self.scope = scope


class Branch:
    """One way of an if: `with branch: ...; branch.yields = (value, ...)`."""

    def __init__(self, builder: ControlOps, label: str, join: str, dead: bool) -> None:
        self._builder = builder
        self._label = label
        self._join = join
        self.dead = dead
        self._stack: contextlib.ExitStack | None = None
        self.yields: Sequence[t.Operand] = ()
        self.end: str | None = None

    def __enter__(self) -> Branch:
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(self._builder._scope(discard=self.dead))
        self._builder._start(self._label)
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._stack is not None
        self.end = self._builder._block
        self._builder._jump(self._join)
        self._stack.close()


class IfElse:
    """The two ways of a condition and, afterwards, `results`: what the way taken yielded."""

    def __init__(self, then: Branch, otherwise: Branch) -> None:
        self.then = then
        self.otherwise = otherwise
        self.results: tuple[t.Value, ...] = ()

    def __iter__(self) -> Iterator[Branch]:
        return iter((self.then, self.otherwise))


class ControlOps(IntegerOps):
    """Structured control flow."""

    @contextlib.contextmanager
    def loop(
        self,
        lo: t.Operand,
        hi: t.Operand,
        step: int = 1,
        carry: Sequence[t.Operand] = (),
        name: str = "loop",
        nonempty: bool = False,
    ) -> Iterator[Loop]:
        """for iv in range(lo, hi, step), a positive constant step, carrying values from trip to trip.

        A single constant trip becomes straight line, no trip nothing. With run-time bounds a guard skips
        the loop where lo >= hi, unless the caller knows that it is `nonempty`. hi + step must not exceed
        2**63. Numbers in `carry` are taken as i64.
        """
        if step <= 0:
            raise InternalError(f"a loop with step {step}")
        initial = [self.value(v, v.type) if isinstance(v, t.Value) else self.value(v) for v in carry]
        lo, hi = _plain(lo), _plain(hi)
        known = isinstance(lo, int) and isinstance(hi, int)
        if isinstance(lo, int) and isinstance(hi, int) and lo + step >= hi:
            yield from self._short_loop(lo, initial, runs=lo < hi)
            return
        first, bound = self.value(lo), self.value(hi)
        exit_label = self._label(f"{name}_end")
        with self._scope(loop=True) as scope:
            guard = None
            if not (known or nonempty):
                guard = self._guard(scope, first, bound, exit_label, name)
            entry, body = self._block, self._label(name)
            self._jump(body)
            self._start(body)
            iv = t.Value(t.i64, f"%i{self._number()}", scope, None)
            phis: Lines = []
            scope.lines.append(phis)
            carried = [self._carried(v, scope) for v in initial]
            loop = Loop(iv, carried, scope)
            yield loop
            following = self._next_values(loop, initial)
            after = self.instruction(t.i64, f"add nsw {iv}, {step}", iv)
            again = self.instruction(t.i1, f"icmp slt {after}, {bound.ref}", after, bound)
            latch = self._block
            self.effect(f"br {again}, label %{body}, label %{exit_label}, !llvm.loop !0")
            phis.append(f"  {iv.ref} = phi i64 [{first.ref}, %{entry}], [{after.ref}, %{latch}]")
            for v, start, end in zip(carried, initial, following):
                phis.append(f"  {v.ref} = phi {v.type} [{start.ref}, %{entry}], [{end.ref}, %{latch}]")
        self._start(exit_label)
        loop.results = self._merge(following, latch, initial, guard)

    @contextlib.contextmanager
    def repeat(self, carry: Sequence[t.Operand] = (), name: str = "repeat") -> Iterator[Loop]:
        """Do the body at least once, and again while the i1 that it assigned to `l.again` holds."""
        initial = [self.value(v, v.type) if isinstance(v, t.Value) else self.value(v) for v in carry]
        with self._scope(loop=True) as scope:
            entry, body, exit_label = self._block, self._label(name), self._label(f"{name}_end")
            self._jump(body)
            self._start(body)
            phis: Lines = []
            scope.lines.append(phis)
            carried = [self._carried(v, scope) for v in initial]
            loop = Loop(0, carried, scope)
            yield loop
            following = self._next_values(loop, initial)
            if loop.again is None:
                raise InternalError(f"the body of {name} did not set `again`")
            again, latch = self.value(loop.again, t.i1), self._block
            self.effect(f"br {again}, label %{body}, label %{exit_label}, !llvm.loop !0", again)
            for v, start, end in zip(carried, initial, following):
                phis.append(f"  {v.ref} = phi {v.type} [{start.ref}, %{entry}], [{end.ref}, %{latch}]")
        self._start(exit_label)
        loop.results = self._merge(following, latch, initial, None)

    @contextlib.contextmanager
    def if_(self, condition: t.Value, name: str = "if") -> Iterator[None]:
        """Run the body where the i1 `condition` holds."""
        if condition.constant is not None:
            if condition.constant:
                yield
            else:
                with self._scope(discard=True):
                    yield
            return
        then, done = self._label(name), self._label(f"{name}_end")
        self._branch(condition, then, done)
        with self._scope():
            self._start(then)
            yield
            self._jump(done)
        self._start(done)

    @contextlib.contextmanager
    def if_else(self, condition: t.Value, name: str = "if") -> Iterator[IfElse]:
        """Two ways: `with b.if_else(c) as both:` with `with both.then:` and `with both.otherwise:` inside.

        Both may set `yields` to as many values of the same types; `both.results` holds the chosen ones
        afterwards.
        """
        then, other, done = (self._label(f"{name}_{way}") for way in ("then", "else", "end"))
        dead = None if condition.constant is None else bool(condition.constant)
        both = IfElse(Branch(self, then, done, dead is False), Branch(self, other, done, dead is True))
        if dead is None:
            self._branch(condition, then, other)
        else:
            self._jump(then if dead else other)
        yield both
        if both.then.end is None or both.otherwise.end is None:
            raise InternalError("both ways of an if_else have to be written")
        self._start(done)
        ways = [way for way in both if not way.dead]
        both.results = self._join(ways, both)

    def switch(self, selector: t.Value, cases: Sequence[int], name: str = "case") -> Iterator[int]:
        """`for case in b.switch(selector, (1, 2, 3)):` write the code of each case in turn; other values do
        nothing.

        The loop over the cases must not be left early.
        """
        done = self._label(f"{name}_end")
        labels = [self._label(f"{name}{case}") for case in cases]
        targets = " ".join(
            f"{selector.type} {case}, label %{label}" for case, label in zip(cases, labels)
        )
        self.effect(f"switch {selector}, label %{done} [{targets}]", selector)
        for case, label in zip(cases, labels):
            with self._scope():
                self._start(label)
                yield case
                self._jump(done)
        self._start(done)

    # -- parts -------------------------------------------------------------------------------------

    def _short_loop(self, lo: int, initial: list[t.Value], runs: bool) -> Iterator[Loop]:
        """A loop of one trip (straight line) or none (its text is thrown away)."""
        loop = Loop(lo, initial, None)
        if runs:
            yield loop
            loop.results = tuple(self._next_values(loop, initial))
        else:
            with self._scope(discard=True):
                yield loop
            loop.results = tuple(initial)

    def _guard(self, scope: Scope, first: t.Value, bound: t.Value, exit_label: str, name: str) -> str:
        """Skip the loop where it has no trips; the block that the skip comes from."""
        runs = self.icmp("slt", first, bound)
        enter, block = self._label(f"{name}_entry"), self._block
        self.effect(f"br {runs}, label %{enter}, label %{exit_label}", runs)
        self._start(enter)
        return block

    def _branch(self, condition: t.Value, then: str, otherwise: str) -> None:
        self.value(condition, t.i1)
        self.effect(f"br {condition}, label %{then}, label %{otherwise}", condition)

    def _carried(self, initial: t.Value, scope: Scope) -> t.Value:
        """What a loop carries, at the start of a trip."""
        value = t.Value(initial.type, f"%c{self._number()}", scope, None)
        if self.bounds is not None and initial.type is t.ptr:
            self.bounds.inherit(value, initial)
        return value

    def _phi(self, type: t.IRType, incoming: Sequence[tuple[t.Value, str]]) -> t.Value:
        """The value that belongs to the block, by its label, from which this one was entered."""
        ways = ", ".join(f"[{value.ref}, %{label}]" for value, label in incoming)
        result = self.instruction(type, f"phi {type} {ways}")
        if self.bounds is not None and type is t.ptr:
            self.bounds.meet(result, incoming)
        return result

    def _next_values(self, loop: Loop, initial: Sequence[t.Value]) -> list[t.Value]:
        if len(loop.next) != len(initial):
            raise InternalError(f"a loop carries {len(initial)} values, its body set {len(loop.next)}")
        values = [self.value(v, start.type) for v, start in zip(loop.next, initial)]
        self._check_in_scope(values)
        if self.bounds is not None:
            self.bounds.require_same(loop.carried, values)
        return values

    def _merge(
        self, following: list[t.Value], latch: str, initial: list[t.Value], guard: str | None
    ) -> tuple[t.Value, ...]:
        """The carried values after a loop: as they left it or, past the guard, as they would have entered."""
        results = []
        for end, start in zip(following, initial):
            incoming = [(end, latch)] + ([(start, guard)] if guard else [])
            results.append(self._phi(end.type, incoming))
        return tuple(results)

    def _join(self, ways: list[Branch], both: IfElse) -> tuple[t.Value, ...]:
        if len(both.then.yields) != len(both.otherwise.yields):
            raise InternalError("the two ways of an if_else yield different numbers of values")
        results = []
        for pair in zip(both.then.yields, both.otherwise.yields):
            typed = self._unify(*pair, default=t.i64)
            chosen = {id(both.then): typed[0], id(both.otherwise): typed[1]}
            incoming = [(chosen[id(way)], way.end or "") for way in ways]
            results.append(self._phi(typed[0].type, incoming))
        return tuple(results)


def _plain(x: t.Operand) -> t.Operand:
    """A constant as a Python integer, so that bounds are recognised as known."""
    if isinstance(x, t.Value) and isinstance(x.constant, int):
        return x.constant
    return x

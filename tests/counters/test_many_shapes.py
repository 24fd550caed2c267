"""One compilation serves all sizes: no code is made anew, memory stays that of the largest, caches end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest

import dlc
import dlc.runtime.call
from dlc.runtime.arena import Block
from dlc.runtime.call import Binding, NativeModel
from dlc.runtime.library import runtime
from dlc.runtime.loader import JitLibrary
from tests.counters.measure import TARGET, python_bytes
from tests.helpers.model_zoo import Model, assert_agrees
from tests.helpers.recipes import make_inputs
from tests.models.architectures import named

Array: TypeAlias = "np.ndarray[Any, Any]"
Shapes: TypeAlias = "Mapping[str, Sequence[int]]"

#: How many sizes each model is called with, and how many of them are compared with onnxruntime.
SIZES, COMPARED = 200, 10


def images(rng: np.random.Generator) -> Shapes:
    """Batch, height and width of a convolutional network."""
    batch, height, width = rng.integers(1, 4), *rng.integers(16, 49, 2)
    return {"image": (batch, 3, height, width)}


def sentences(rng: np.random.Generator) -> Shapes:
    """Batch and length of an encoder."""
    shape = (rng.integers(1, 9), rng.integers(1, 40))
    return {"ids": shape, "mask": shape, "types": shape}


def series(rng: np.random.Generator) -> Shapes:
    """Batch and length of a recurrent network."""
    return {"series": (rng.integers(1, 9), rng.integers(1, 60), 12)}


def states(rng: np.random.Generator) -> Shapes:
    """The batch of a loop."""
    return {"state": (rng.integers(1, 2000), 18), "steps": ()}


CASES: dict[str, Callable[[np.random.Generator], Shapes]] = {
    "resnet": images,
    "bert": sentences,
    "lstm": series,
    "differential": states,
}


@dataclasses.dataclass
class Counts:
    """What was made while calls ran."""

    libraries: int = 0
    bindings: int = 0
    arenas: list[int] = dataclasses.field(default_factory=list)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Counts code that is loaded, sizes that are computed and arenas that are taken from here on."""
    runtime()  # the runtime's own code, which a process loads once
    found = Counts()
    load, bind = JitLibrary.__init__, NativeModel._evaluate

    def counted_load(self: JitLibrary, *args: Any, **kwargs: Any) -> None:
        found.libraries += 1
        load(self, *args, **kwargs)

    def counted_bind(self: NativeModel, symbols: tuple[int, ...]) -> Binding:
        found.bindings += 1
        return bind(self, symbols)

    def counted_block(size: int, **options: Any) -> Block:
        found.arenas.append(size)
        return Block(size, **options)

    monkeypatch.setattr(JitLibrary, "__init__", counted_load)
    monkeypatch.setattr(NativeModel, "_evaluate", counted_bind)
    monkeypatch.setattr(dlc.runtime.call, "Block", counted_block)
    return found


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("something is compiled")


def distinct(draw: Callable[[np.random.Generator], Shapes], rng: np.random.Generator) -> Iterator[Shapes]:
    """Different sizes without end."""
    seen = set()
    while True:
        shapes = {name: tuple(map(int, shape)) for name, shape in draw(rng).items()}
        if (key := tuple(shapes.items())) not in seen:
            seen.add(key)
            yield shapes


def slot_of(native: dlc.CompiledModel) -> Any:
    """The only context of a model."""
    (slot,) = native._native._idle
    return slot


@pytest.mark.parametrize("name", CASES)
def test_one_compilation_serves_200_sizes(name: str, counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    model = named(name)
    with model.compile(target=TARGET, threads=2) as native:
        assert counts == Counts(libraries=1)
        monkeypatch.setattr("dlc.backends.cpu.backend.generate", refuse)
        stream = distinct(CASES[name], np.random.default_rng(3))
        every = [next(stream) for _ in range(SIZES)]
        largest = 0
        for number, shapes in enumerate(every):
            feeds = make_inputs(model.inputs, shapes, number)
            outputs = native(feeds)
            largest = max(largest, slot_of(native).binding.arena_bytes)
            if number % (SIZES // COMPARED) == 0:
                assert_agrees(dataclasses.replace(model, bindings=(shapes,)), _seeded(model, shapes, native))
            assert all(np.isfinite(value).all() for value in outputs)
        # Each size was planned once, and one context served all.
        assert counts.libraries == 1 and counts.bindings == SIZES == len(native._native._bindings)
        assert native._native._made == 1 and len(native._plans) <= 256
        # The arena is that of the largest size, but for what it has in reserve; there were few before it.
        arena = slot_of(native)._arena.size
        assert arena == counts.arenas[-1] == max(counts.arenas) and largest <= arena <= largest * 5 // 4
        assert len(counts.arenas) < 25
        # The second time nothing is planned, and no memory stays behind.
        before = counts.bindings, list(counts.arenas)

        def again() -> None:
            for shapes in every[:50]:
                native(make_inputs(model.inputs, shapes, 0))

        storages = slot_of(native).state().storages
        scratch = slot_of(native).context.scratch
        again()
        assert (counts.bindings, counts.arenas) == before
        assert slot_of(native).state().storages == storages and slot_of(native).context.scratch == scratch


def _seeded(model: Model, shapes: Shapes, native: dlc.CompiledModel) -> dlc.Outputs:
    """The outputs for the inputs that `model.feeds` would make for these shapes."""
    return native(make_inputs(model.inputs, shapes, 0))


def test_what_is_kept_of_sizes_is_bounded(counts: Counts) -> None:
    """Many more sizes than are kept: Python's memory ends where the caches do."""
    model = named("differential")
    with model.compile(target=TARGET, threads=1) as native:
        feeds = model.feeds()

        def call(first: int, last: int) -> None:
            for rows in range(first, last):
                native({**feeds, "state": np.zeros((rows, 18), np.float32)})

        call(1, 600)
        assert counts.bindings == 599
        assert len(native._native._bindings) == 256 and len(native._plans) <= 256
        kept = python_bytes(lambda: None)
        assert python_bytes(lambda: call(1, 600)) < kept + 1_500_000


def test_decoding_with_a_growing_cache_only_binds_sizes(
    counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step has a cache one longer: the same code, a new number, now and then a larger arena."""
    model, steps = named("gpt"), 60
    with model.compile(target=TARGET, threads=2) as native:
        monkeypatch.setattr("dlc.backends.cpu.backend.generate", refuse)
        for repetition in range(2):
            ids = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
            past = np.zeros((2, 2, 2, 4, 0, 12), np.float32)
            for _ in range(steps):
                feeds = {"ids": ids, "past": past}
                logits, past = native(feeds)
                ids = logits[:, -1:].argmax(-1)
            assert past.shape[4] == 5 + steps - 1
            assert counts.libraries == 1 and native._native._made == 1
            # The sizes of the second sequence are known from the first one.
            assert counts.bindings == steps, repetition
        needed = [binding.arena_bytes for binding in native._native._bindings.values()]
        assert len(set(needed)) > 20 and len(counts.arenas) < 12
        assert max(counts.arenas) <= max(needed) * 5 // 4
        shapes = {name: array.shape for name, array in feeds.items()}
        assert_agrees(dataclasses.replace(model, bindings=(shapes,)), _seeded(model, shapes, native))


def test_a_loop_that_decodes_keeps_its_growing_memory(counts: Counts) -> None:
    """A cache that grows within one call: its memory serves the next call as well."""
    from tests.helpers.loop_models import DECODING

    rng = np.random.default_rng(0)
    feeds = {
        "token": rng.integers(4, 9, 3),
        "most": np.array(30),
        "table": rng.standard_normal((9, 8)).astype(np.float32),
    }
    with dlc.compile(DECODING.model(), target=TARGET, cache=False) as native:
        lengths, storages = [], []
        for most in (30, 7, 30, 1, 30):
            outputs = native({**feeds, "most": np.array(most)})
            lengths.append(outputs["cache"].shape[1])
            storages.append(slot_of(native).state().storages)
        assert counts.libraries == 1 and native._native._made == 1
        assert lengths == [30, 7, 30, 1, 30] and storages == [storages[0]] * 5

"""Models of all templates under checked code generation: it finds nothing, changes nothing, and finds what is
planted. The native suite runs under it with DLC_TEST_DEBUG_CODEGEN=1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import pytest

import dlc
from dlc.backends.cpu import access, driver, types as t
from dlc.backends.cpu.backend import RED_ZONE
from dlc.backends.cpu.llvm.bounds import Bounds
from dlc.backends.cpu.llvm.memory import MemoryOps
from dlc.backends.cpu.templates import select
from dlc.backends.cpu.zones import PATTERN
from dlc.ir.dims import Dim
from dlc.lowering.kernel import Access, Param
from dlc.lowering.program import Buffer
from dlc.runtime.arena import _POISON
from tests.helpers.drafts import FLOAT, Draft
from tests.helpers.model_zoo import bits
from tests.helpers.recipes import Array
from tests.helpers.routine_models import ROUTINES
from tests.mutants.specimens import BUILDERS

#: For each template a model that reaches it.
SHOWN = {
    "attention": "attention",
    "convolution": "convolutions",
    "depthwise": "convolutions",
    "gemm": "products",
    "nest": "broadcasting",
    "recurrent": "recurrence",
    "top_k": "reductions",
    "winograd": "convolutions",
    **{template: template for template in ROUTINES},
}


def debugged(model: onnx.ModelProto, **options: Any) -> dlc.CompiledModel:
    return dlc.compile(model, cache=False, debug_codegen=True, **options)


@pytest.mark.parametrize("name", [*BUILDERS, *ROUTINES])
def test_checked_code_finds_nothing_and_computes_the_same(name: str) -> None:
    feeds: tuple[Mapping[str, Array], ...]
    if name in ROUTINES:
        model, given = ROUTINES[name]()
        feeds = (given,)
    else:
        specimen = BUILDERS[name]()
        model, feeds = specimen.model, specimen.feeds
    with dlc.compile(model, cache=False) as plain, debugged(model, threads=2) as checked:
        used = {kernel.template for kernel in checked.report().kernels}
        assert used == {kernel.template for kernel in plain.report().kernels}
        assert {template for template, model_name in SHOWN.items() if model_name == name} <= used
        for given in feeds:
            assert bits(checked(given)) == bits(plain(given))


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_checked_code_of_other_targets(target: str) -> None:
    if not dlc.target.resolve(target).runs_on(dlc.target.native()):
        pytest.skip(f"this machine does not run {target}")
    for name in ("products", "fixed_convolutions"):
        specimen = BUILDERS[name]()
        with debugged(specimen.model, target=target) as checked:
            for feeds in specimen.feeds:
                checked(feeds)


def test_every_template_is_shown() -> None:
    names = set()
    for path in Path(select.__file__).parent.glob("*.py"):
        names |= set(re.findall(r"(?:\.finish\(\s*|    template = )\"(\w+)\"", path.read_text()))
    assert names == set(SHOWN)


def two_products() -> tuple[onnx.ModelProto, Array]:
    """An intermediate result in the arena, between input and output."""
    d = Draft()
    d.add("MatMul", ["x", d.weight("w1", 16, 16)], "h")
    d.add("Softmax", ["h"], "s")
    d.add("MatMul", ["s", d.weight("w2", 16, 16)], "y")
    model = d.model([("x", FLOAT, ["n", 16])], [("y", FLOAT, ["n", 16])], 17)
    return model, np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32)


def negation() -> onnx.ModelProto:
    d = Draft()
    d.add("Neg", ["x"], "y")
    return d.model([("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])], 17)


def _shifted(offset: Callable[..., Dim], by: int) -> Callable[..., Dim]:
    return lambda param, index: offset(param, index) + by


@pytest.mark.parametrize("by", [1, -1, 1000])
def test_a_planted_wrong_index_is_caught(by: int) -> None:
    """An offset that is wrong by some elements: the run names node, kernel and access, and writes nothing."""
    with patch.object(access, "offset", _shifted(access.offset, by)), debugged(negation()) as model:
        memory = np.full(3000, 7, np.float32)
        out = memory[1000:1019]
        call = model.prepare({"x": np.ones(19, np.float32)}, {"y": out})
        with pytest.raises(dlc.InternalError, match=r"Neg_y.*k0_\w*: (load of|store to|masked) .*'"):
            call()
        assert (memory[:1000] == 7).all() and (memory[1019:] == 7).all()


def test_a_planted_missing_tail_mask_is_caught() -> None:
    def all_lanes(self: MemoryOps, remaining: object, lanes: int = 16) -> object:
        del remaining
        return self.const(t.vector(lanes, t.i1), 1)

    with patch.object(MemoryOps, "tail_mask", all_lanes), debugged(negation()) as model:
        model(np.ones(32, np.float32))
        with pytest.raises(dlc.InternalError, match="left its memory"):
            model(np.ones(33, np.float32))


def test_a_buffer_that_is_too_small_is_caught() -> None:
    """The driver says how large memory is, not the kernel: a size that was computed wrong shows."""
    specimen = BUILDERS["products"]()
    size = driver._Run._bytes

    def short(self: driver._Run, buffer: Buffer) -> t.Value:
        return self.b.value(self.b.sub(size(self, buffer), 64))

    with (
        patch.object(driver._Run, "_bytes", short),
        debugged(specimen.model) as model,
        pytest.raises(dlc.InternalError, match="left its memory"),
    ):
        model(specimen.feeds[0])


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Accesses go where they want: only red zones are left."""
    with (
        patch.object(Bounds, "place", lambda self, pointer, *_: pointer),
        patch.object(Bounds, "masked_place", lambda self, pointer, *_: pointer),
    ):
        yield


@pytest.mark.parametrize("by, side", [(1, "after"), (-1, "before"), (32, "after")])
@pytest.mark.usefixtures("unchecked")
def test_a_write_beside_a_buffer_is_found_in_its_red_zone(by: int, side: str) -> None:
    model, x = two_products()
    with debugged(model) as checked:
        checked(x)
    original = access.offset

    def offset(param: Param, index: Sequence[Dim]) -> Dim:
        return original(param, index) + (by if param.access is Access.WRITE else 0)

    with patch.object(access, "offset", offset), debugged(model) as checked:
        # What goes wrong with the output itself has to stay within this test's memory.
        out = np.zeros(400, np.float32)[160:240].reshape(5, 16)
        call = checked.prepare({"x": x}, {"y": out})
        with pytest.raises(dlc.InternalError, match=f"red zone {side} '"):
            call()


def test_memory_is_poisoned_before_each_run(tmp_path: Path) -> None:
    assert int(_POISON) == PATTERN
    model, x = two_products()
    with debugged(model) as checked:
        assert checked._native.poison
        expected = bits(checked(x))
        checked.save(tmp_path / "m.dlc")
    with dlc.load(tmp_path / "m.dlc") as loaded:
        assert loaded._native.poison and loaded._artifact.interface.accesses
        assert bits(loaded(x)) == expected


def test_arenas_have_red_zones_only_under_debug() -> None:
    model, x = two_products()
    plain, checked = dlc.compile(model, cache=False), debugged(model)
    narrow, wide = (compiled.prepare({"x": x})._call._binding.arena_bytes for compiled in (plain, checked))
    assert wide >= narrow + 2 * RED_ZONE
    assert plain._artifact.interface.accesses == ()

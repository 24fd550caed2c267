"""Random graphs: valid, the same for the same seed, and with every operator that the generator knows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest

from dlc.fuzz.case import Case
from dlc.fuzz.generate import NEWEST, OLDEST, case_of, generate
from dlc.fuzz.maker import Declined, Maker, Tensor
from dlc.fuzz.sampling import Chance, Domain
from dlc.fuzz.table import Entry, entries
from dlc.verify.examine import judge_alone
from dlc.verify.judges import Judge

COUNT = 120


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [generate(11, index) for index in range(COUNT)]


def uses(entry: Entry) -> Iterator[Case]:
    """Graphs of one use of an entry each."""
    for index in range(200):
        chance = Chance(5, index)
        maker = Maker(chance, chance.between(max(OLDEST, entry.since), NEWEST))
        try:
            if entry.exists(maker.opset):
                entry.use(maker, entry.operator)
                yield case_of(maker)
        except Declined:
            continue


def test_the_same_seed_gives_the_same_case(cases: list[Case]) -> None:
    for index in (0, 7, 23):
        again = generate(11, index)
        assert again.model == cases[index].model
        assert again.options == cases[index].options
        for one, other in zip(
            (again.inputs, *again.others), (cases[index].inputs, *cases[index].others), strict=True
        ):
            assert one.keys() == other.keys()
            assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert generate(12, 0).model != cases[0].model


def test_every_graph_is_valid(cases: list[Case]) -> None:
    for case in cases:
        onnx.checker.check_model(case.model)


def test_the_inputs_are_those_of_the_graph(cases: list[Case]) -> None:
    for case in cases:
        defaults = {tensor.name for tensor in case.model.graph.initializer}
        declared = {info.name: info.type.tensor_type for info in case.model.graph.input}
        assert case.inputs.keys() == declared.keys() - defaults
        for name, array in case.inputs.items():
            assert onnx.helper.np_dtype_to_tensor_dtype(array.dtype) == declared[name].elem_type
            for extent, dim in zip(array.shape, declared[name].shape.dim, strict=True):
                assert not dim.HasField("dim_value") or dim.dim_value == extent
        for other in case.others:
            assert [other[name].dtype for name in case.inputs] == [a.dtype for a in case.inputs.values()]


def test_graphs_are_varied(cases: list[Case]) -> None:
    dims = [dim for c in cases for info in c.model.graph.input for dim in info.type.tensor_type.shape.dim]
    arrays = [array for case in cases for array in case.inputs.values()]
    assert any(dim.dim_param for dim in dims) and any(not dim.WhichOneof("value") for dim in dims)
    assert any(array.size == 0 for array in arrays) and any(array.ndim == 0 for array in arrays)
    assert len({array.dtype for array in arrays}) > 8
    assert {case.model.opset_import[0].version for case in cases} > {OLDEST, 13, NEWEST}
    assert any(case.model.functions for case in cases)
    assert len({operator for case in cases for operator in case.operators}) > 100
    assert any(name.startswith("l") for case in cases for name in case.inputs)  # shapes as run-time data
    salted = [a for case in cases for o in case.others for a in o.values() if a.dtype == np.float32]
    assert any(np.isnan(array).any() for array in salted)


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.operator)
def test_every_operator_is_used_validly(entry: Entry) -> None:
    case = next(uses(entry), None)
    assert case is not None
    assert entry.operator in {*case.operators, *(node.op_type for node in case.model.graph.node)}
    onnx.checker.check_model(case.model, full_check=True)


def test_the_judges_run_nearly_all_graphs(cases: list[Case]) -> None:
    """Else a campaign tells nothing."""
    count = 0
    for case in cases[:40]:
        assert judge_alone(case.model, [case.inputs]).symptom is None
        judge = Judge("onnxruntime", case.model)
        outputs = judge.run(case.inputs)
        count += outputs.keys() == {info.name for info in case.model.graph.output}
    assert count >= 38


def test_a_declined_use_leaves_nothing_behind() -> None:
    maker = Maker(Chance(0, 0), 17)
    maker.inputs.append(Tensor("x", np.zeros(3, np.float32)))
    with pytest.raises(Declined):
        maker.pick((np.dtype(np.int8),), (2,), fits=lambda _: False)
    assert maker.nodes == [] and maker.constants == []


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "int8", "bool"])
def test_arrays_lie_in_their_domain(dtype: str) -> None:
    chance, domain = Chance(1, 2), Domain(1, 6, gap=2)
    for _ in range(20):
        array = chance.array(np.dtype(dtype), (4, 5), domain)
        assert array.dtype == dtype and array.shape == (4, 5)
        assert domain.holds(array)

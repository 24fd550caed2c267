"""Strings, sequences and optionals: imported, and evaluated as graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import InputError, LimitError, ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.ir.parse import parse as parse_graph
from dlc.ir.text import constants, to_text
from dlc.ir.verify import verify
from dlc.passes.pipeline import default_pipeline
from tests.helpers.object_models import CASES, ObjectCase, assert_same, parse


def check(graph: Any, names: Any, case: ObjectCase) -> None:
    for feeds, wanted in zip(case.feeds, case.results, strict=True):
        results = evaluate(graph, feeds)
        for name, expected in zip(names, wanted, strict=True):
            assert_same(results[name], expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_graph_means_what_the_model_does(case: ObjectCase) -> None:
    model = import_model(case.model())
    verify(model.graph)
    check(model.graph, model.outputs, case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_passes_and_text_keep_the_meaning(case: ObjectCase) -> None:
    model = import_model(case.model())
    default_pipeline().run(model.graph, check=True)
    check(model.graph, model.outputs, case)
    again = parse_graph(to_text(model.graph), constants(model.graph))
    verify(again)
    check(again, model.outputs, case)


def types(text: str, **options: Any) -> list[str]:
    return [str(value.type) for value in import_model(parse(text), **options).graph.outputs]


def test_element_types_are_what_all_elements_have_in_common() -> None:
    text = "g (float[n,3] x, float[m,3] y, float[2,3] z) => (seq(float[]) s, seq(float[]) t) {{ {} }}"
    assert types(text.format("s = SequenceConstruct(x,y) t = SequenceInsert(s,z)")) == ["seq<f32[?, 3]>"] * 2
    flat = "k = Constant<value_ints=[-1]>() v = Reshape(x,k) s = SequenceConstruct(x,v) "
    assert types(text.format(flat + "t = SequenceConstruct(z,z)")) == ["seq<f32[...]>", "seq<f32[2, 3]>"]


RELU = (
    "g (seq(float[]) s) => (float[a,b] y) {} "
    "{{ p = Constant<value_int=0>() t = SequenceAt(s,p) y = Relu(t) }}"
)


def test_ranks_come_from_options_or_declarations() -> None:
    with pytest.raises(UnsupportedError) as caught:
        import_model(parse(RELU.format("")))
    (finding,) = caught.value.findings
    assert finding.node == "Relu_2" and "rank of an operand" in finding.reason
    assert "shapes=" in str(finding.hint)
    assert types(RELU.format(""), shapes={"s": (None, 3)}) == ["f32[t_0, 3]"]
    assert types(RELU.format("<float[u,7] t>")) == ["f32[t_0, t_1]"]


@pytest.mark.parametrize(("given", "message"), [((None, 4), "which are f32"), ((None,), "gives")])
def test_shapes_of_sequences_are_checked(given: Any, message: str) -> None:
    model = parse("g (seq(float[a,3]) s) => (int64 n) { n = SequenceLength(s) }")
    with pytest.raises(InputError, match=message):
        import_model(model, shapes={"s": given})
    with pytest.raises(InputError, match="nowhere"):
        import_model(model, shapes={"nowhere": 3})


STRINGS = "g (string[n] s) => ({}) {{ {} }}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g (seq(float[n]) s) => (float[n] y) { y = Relu(s) }", "must be a tensor, but is seq<f32"),
        ("g (seq(float[n]) s) => (float[n] y) { y = Transpose(s) }", "is seq<f32.*, not a tensor"),
        ("g (float[n] s) => (int64 y) { y = SequenceLength(s) }", "must be a sequence of tensors"),
        ("g (seq(float[n]) s) => (seq(int64[n]) y) { y = Identity(s) }", "is declared as seq"),
        ("g (seq(float[n]) s, int64[n] x) => (seq(float[n]) y) { y = SequenceInsert(s,x) }", "hold both"),
        ("g (seq(float[n]) s, int64[2] p) => (float[n] y) { y = SequenceAt(s,p) }", "one element"),
        ("g (float[n] x) => (bool y) { o = Optional() y = OptionalHasElement(o) }", "neither an operand"),
        (STRINGS.format("bool[n] y", 'y = RegexFullMatch<pattern="[a">(s)'), "missing ]"),
        (STRINGS.format("string[a,b] y", "y,l = StringSplit<maxsplit=-1>(s)"), "negative"),
        ("g (string[2,3] s) => (string[a,b] y) { y = StringNormalizer(s) }", "one row"),
        ("g (string[n] s, float[n] x) => (string[n] y) { y = StringConcat(s,x) }", "string"),
        (
            'g (int64[n] s) => (float[3] y) { y = TfIdfVectorizer<mode="TF",ngram_counts=[0],'
            'ngram_indexes=[0],pool_strings=["a"],min_gram_length=1,max_gram_length=1,max_skip_count=0>(s) }',
            "pool_int64s",
        ),
    ],
)
def test_what_does_not_fit_is_refused(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_model(parse(text))


def test_what_is_not_offered_is_refused() -> None:
    bytes_ = STRINGS.format("bool[n] y", 'y = RegexFullMatch<pattern="\\\\C">(s)')
    with pytest.raises(UnsupportedError, match="byte"):
        import_model(parse(bytes_))
    turkish = 'y = StringNormalizer<locale="tr_TR",case_change_action="UPPER">(s)'
    with pytest.raises(UnsupportedError, match="tr_TR"):
        import_model(parse(STRINGS.format("string[m] y", turkish)))
    large = STRINGS.format("bool[n] y", f'y = RegexFullMatch<pattern="({"x" * 99}){{999}}">(s)')
    with pytest.raises(LimitError, match="states"):
        import_model(parse(large))


def test_known_contents_leave_no_sequence() -> None:
    for case in CASES:
        if case.hosts:
            continue
        for graph in [import_model(case.model()).graph]:
            assert not [node for node in graph.nodes if "Sequence" in node.op.name], case.name


def test_what_a_region_does_not_read_is_not_captured() -> None:
    (case,) = (case for case in CASES if case.name == "a sequence read within a branch")
    (branch,) = (node for node in import_model(case.model()).graph.nodes if node.op.name == "If")
    assert [str(value.type) for value in branch.operands] == ["bool[]", "f32[n, 3, 4]"]


def test_a_position_beyond_the_end_fails_when_it_is_read() -> None:
    text = (
        "g (float[2,4] x, bool c) => (float[a,4] y) { s = SplitToSequence(x) y = If(c) "
        "<then_branch = t () => (float[a1,4] u) { p = Constant<value_int=5>() u = SequenceAt(s,p) }, "
        "else_branch = e () => (float[a2,4] v) { v = Identity(x) }> }"
    )
    graph = import_model(parse(text)).graph
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(evaluate(graph, {"x": x, "c": np.array(False)})["y"], x)
    with pytest.raises(InputError, match="position 5 is outside"):
        evaluate(graph, {"x": x, "c": np.array(True)})

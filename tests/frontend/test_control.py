"""If, Loop and Scan, and what has sizes that only the run tells: imported, and evaluated as graphs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from dlc.errors import Error, InputError, ModelError, UnsupportedError
from dlc.frontend.onnx.importer import ImportedModel, import_model
from dlc.frontend.onnx.regions import Region
from dlc.ir.evaluate import evaluate
from dlc.ir.graph import Value
from dlc.ir.verify import verify
from dlc.lowering.lower import lower
from dlc.lowering.program_evaluate import evaluate_program
from dlc.passes.pipeline import default_pipeline
from dlc.verify.engines import OnnxRuntime
from tests.helpers.control_models import Case, normal, number
from tests.helpers.judged import CASES, assert_close, assert_judged_right, runs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_graph_means_what_the_model_does(case: Case) -> None:
    model = import_model(case.model())
    verify(model.graph)
    for run in runs(case):
        results = evaluate(model.graph, run.feeds)
        assert_judged_right(run, [results[name] for name in model.outputs])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_passes_keep_the_meaning(case: Case) -> None:
    model = import_model(case.model())
    default_pipeline().run(model.graph, check=True)
    for run in runs(case):
        results = evaluate(model.graph, run.feeds)
        assert_judged_right(run, [results[name] for name in model.outputs])


# --- results of different ranks

SQUEEZE = """main (float[n, m] x) => (float[a] y) {{
  zero = Constant <value_int = 0> ()
  one = Constant <value_int = 1> ()
  ones = Constant <value_ints = [1]> ()
  shape = Shape(x)
  m0 = Gather(shape, one)
  {condition}
  y = If (c) <then_branch = yes () => ({yes}) {{ {yes} = {first} }},
      else_branch = no () => ({no}) {{ {no} = {second} }}>
}}"""
SQUEEZED, WHOLE = "Squeeze(x, ones)", "Exp(x)"


def squeezing(
    condition: str, first: str = SQUEEZED, second: str = WHOLE, declared: int | None = None
) -> ImportedModel:
    """A model that squeezes or does not; `declared` is the rank that it says its output has."""
    text = SQUEEZE.format(condition=condition, yes="p", no="q", first=first, second=second)
    model = Case("squeezing", text, lambda rng: []).model()
    if declared is not None:
        shape = model.graph.output[0].type.tensor_type.shape
        for axis in range(declared):
            shape.dim.add().dim_param = f"y{axis}"
    return import_model(model)


@pytest.mark.parametrize(
    "condition",
    [
        "c = Equal(m0, one)",
        "c0 = Equal(m0, one)  c = Reshape(c0, ones)",
        "c0 = Equal(m0, one)  c1 = Cast <to = 7> (c0)  c = Cast <to = 9> (c1)",
        "c0 = Equal(m0, one)  c1 = Not(c0)  c = Not(c1)",
        "less = Sub(m0, one)  c1 = Cast <to = 9> (less)  c = Not(c1)",
    ],
)
def test_a_squeeze_of_one_axis_is_assumed_to_happen(condition: str) -> None:
    """What exporters write for it; sizes for which the result would have another rank are refused."""
    model = squeezing(condition)
    verify(model.graph)
    x = np.arange(4, dtype=np.float32)[:, None]
    assert evaluate(model.graph, {"x": x})["y"].tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match=r"\[4, 1\] is needed"):
        evaluate(model.graph, {"x": np.zeros((4, 2), np.float32)})


def test_the_squeeze_may_stand_in_the_other_branch() -> None:
    model = squeezing("c0 = Equal(m0, one)  c = Not(c0)", WHOLE, SQUEEZED)
    x = np.arange(3, dtype=np.float32)[:, None]
    assert evaluate(model.graph, {"x": x})["y"].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"\[4, 1\] is needed"):
        evaluate(model.graph, {"x": np.zeros((4, 2), np.float32)})


@pytest.mark.parametrize(
    ("condition", "rank"),
    [
        ("c = Constant <value = bool {1}> ()", 1),
        ("c = Constant <value = bool[1] {0}> ()", 2),
        ("none = Constant <value_int = -1> ()  c = LessOrEqual(m0, none)", 2),
        ("none = Constant <value_int = -1> ()  c = GreaterOrEqual(none, m0)", 2),
        ("none = Constant <value_int = -1> ()  c = Greater(m0, none)", 1),
        ("c = Less(m0, m0)", 2),
        ("twice = Add(m0, m0)  odd = Add(twice, one)  c = Equal(twice, odd)", 2),
        ("r = Size(shape)  two = Add(one, one)  c = Equal(r, two)", 1),
    ],
)
def test_a_condition_that_is_known_takes_its_branch(condition: str, rank: int) -> None:
    model = squeezing(condition)
    assert not any(node.regions for node in model.graph.nodes)
    assert model.graph.outputs[0].tensor.rank == rank


@pytest.mark.parametrize(
    "condition",
    [
        "c = Less(m0, ones)",
        "s = ReduceSum <keepdims = 0> (x)  c = Cast <to = 9> (s)",
        "s = ReduceSum <keepdims = 0> (x)  i = Cast <to = 7> (s)  c = Equal(i, one)",
    ],
)
def test_a_rank_that_depends_on_data_is_refused(condition: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        squeezing(condition)
    (finding,) = caught.value.findings
    assert finding.operator == "If" and finding.node.startswith("If_")
    assert "the rank of output 0 depends on data: it is f32[n] or f32[n, m]" in finding.reason
    assert "same rank" in (finding.hint or "")


@pytest.mark.parametrize(
    ("condition", "declared", "feeds", "refused"),
    [
        ("c = Equal(m0, one)", 2, (3, 2), (3, 1)),
        ("c = Equal(m0, one)", 1, (3, 1), (3, 2)),
        ("c = Less(m0, one)", 2, (3, 1), (3, 0)),
        ("five = Constant <value_int = 5> ()  c = Greater(five, m0)", 2, (3, 5), (3, 4)),
    ],
)
def test_a_declared_rank_tells_which_way_is_taken(
    condition: str, declared: int, feeds: tuple[int, int], refused: tuple[int, int]
) -> None:
    model = squeezing(condition, declared=declared)
    assert model.graph.outputs[0].tensor.rank == declared
    assert evaluate(model.graph, {"x": np.zeros(feeds, np.float32)})["y"].ndim == declared
    with pytest.raises(InputError, match="is needed"):
        evaluate(model.graph, {"x": np.zeros(refused, np.float32)})


def test_a_declared_rank_is_checked_where_data_decides() -> None:
    condition = "s = ReduceMax <keepdims = 0> (x)  c = Cast <to = 9> (s)"
    model = squeezing(condition, declared=2)
    verify(model.graph)
    assert evaluate(model.graph, {"x": np.zeros((2, 1), np.float32)})["y"].tolist() == [[1], [1]]
    with pytest.raises(InputError, match="is needed: otherwise results have another rank"):
        evaluate(model.graph, {"x": np.ones((2, 1), np.float32)})
    program = lower(squeezing(condition, declared=2).graph)
    assert evaluate_program(program, [np.zeros((2, 1), np.float32)])[0].tolist() == [[1], [1]]
    with pytest.raises(InputError, match="is needed: otherwise results have another rank"):
        evaluate_program(program, [np.ones((2, 1), np.float32)])


SCALAR = """main (float[n] x, bool c, float[1] v) => (float[m] y) {{
  ones = Constant <value_ints = [0]> ()
  s = If (c) <then_branch = yes () => (p) {{ half = Constant <value_float = 0.5> ()  p = Identity(half) }},
      else_branch = no () => (q) {{ q = Exp(v) }}>
  {nodes}
}}"""


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Mul(x, s)",
        "t = Neg(s)  u = Add(t, s)  y = Sub(u, x)",
        "a = CastLike(s, c)  b = CastLike(x, s)  y = Where(a, b, x)",
        """y = Loop ("", c, x) <body = step (int64 i, bool g, float[k] h) => (bool o, float[l] r) {
          o = Constant <value = bool {0}> ()
          r = Div(h, s)
        }>""",
        """t = If (c) <then_branch = a () => (d) { d = Neg(s) }, else_branch = b () => (e) { e = Abs(v) }>
        y = Add(x, t)""",
    ],
)
@pytest.mark.parametrize("extent", [1, 3])
def test_a_scalar_or_a_vector_of_one_may_broadcast(nodes: str, extent: int) -> None:
    """What comes of it has the rank of the other operand."""
    case = Case("scalar", SCALAR.format(nodes=nodes), lambda rng: [])
    model = import_model(case.model())
    verify(model.graph)
    judge = OnnxRuntime(case.model(), threads=1)
    for condition in (True, False):
        x = np.arange(extent, dtype=np.float32)
        feeds = {"x": x, "c": np.array(condition), "v": np.array([2], np.float32)}
        wanted = [np.asarray(value) for value in judge.run(feeds).values()]
        assert_close([evaluate(model.graph, feeds)["y"]], wanted)


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Identity(s)",
        "t = Neg(s)  y = Mul(t, t)",
        "t = Unsqueeze(s, ones)  y = Mul(t, x)",
        "y = Shape(s)",
        "y = Concat <axis = 0> (x, s)",
        """y = Loop ("", c, s) <body = step (int64 i, bool g, float[k] h) => (bool o, float[l] r) {
          o = Constant <value = bool {0}> ()
          r = Mul(h, x)
        }>""",
        """y, z = Loop ("", c, x) <body = step (int64 i, bool g, float[k] h) => (bool o, float[l] r, t) {
          o = Constant <value = bool {0}> ()
          r = Mul(h, x)
          t = Neg(s)
        }>""",
        """y = If (c) <then_branch = a () => (d) { d = Neg(s) }, else_branch = b () => (e) { e = Exp(x) }>""",
    ],
)
def test_where_it_shows_whether_it_is_a_scalar_the_model_is_refused(nodes: str) -> None:
    error = refused(SCALAR.format(nodes=nodes), UnsupportedError)
    assert isinstance(error, UnsupportedError)
    assert any(
        f.operator == "If" and "the rank of output 0 depends on data" in f.reason for f in error.findings
    )


def test_sizes_may_be_fixed_where_they_decide_the_rank() -> None:
    text = SQUEEZE.format(condition="c = Less(m0, one)", yes="p", no="q", first=SQUEEZED, second=WHOLE)
    model = import_model(Case("squeezing", text, lambda rng: []).model(), shapes={"x": ["n", 3]})
    assert model.graph.outputs[0].tensor.rank == 2


# --- what is not valid, or not compiled


def refused(text: str, error: type[Error], opset: int = 18) -> Error:
    with pytest.raises(error) as caught:
        import_model(Case("refused", text, lambda rng: [], opset).model())
    return caught.value


LOOP = """main (float[n] x, int64 trip) => (float[m] y) {{
  y = Loop (trip, "", x) <body = step ({inputs}) => ({outputs}) {{ on = Identity(go)  {nodes} }}>
}}"""


def test_a_state_whose_rank_changes_is_refused() -> None:
    text = LOOP.format(
        inputs="int64 i, bool go, float[n] h",
        outputs="bool on, float[a, b] g",
        nodes="axis = Constant <value_ints = [0]> ()  g = Unsqueeze(h, axis)",
    )
    error = refused(text, UnsupportedError)
    assert "the rank of a state changes: state 0 starts as f32[n]" in str(error)


@pytest.mark.parametrize(
    ("inputs", "outputs", "nodes", "message"),
    [
        ("int64 i, bool go", "bool on, float[n] g", "g = Exp(x)", "do not fit 1 states"),
        ("int64 i, bool go, float[n] h", "bool on", "", "do not fit 1 states"),
        ("int64 i, bool go, float[n] h", "bool on, int64[n] g", "g = Cast <to = 7> (h)", "starts as f32"),
    ],
)
def test_bodies_that_do_not_fit_are_refused(inputs: str, outputs: str, nodes: str, message: str) -> None:
    error = refused(LOOP.format(inputs=inputs, outputs=outputs, nodes=nodes), ModelError)
    assert message in str(error) and (error.node or "").startswith("Loop")


def test_a_branch_with_another_number_of_results_is_refused() -> None:
    text = """main (float[n] x, bool c) => (float[n] y) {
      y = If (c) <then_branch = yes () => (float[n] a, float[n] a) { a = Exp(x) },
        else_branch = no () => (float[n] b) { b = Neg(x) }>
    }"""
    assert "then_branch has 2 outputs, not 1" in str(refused(text, ModelError))
    other = text.replace("float[n] a, float[n] a", "float[n] a").replace("b = Neg(x)", "b = Shape(x)")
    assert "output 0 is" in str(refused(other, ModelError))


# --- nesting


def _nested(depth: int, innermost: str) -> str:
    """Loops in loops, each with one state; what happens to it, the innermost one says."""
    nodes = innermost.format(state=f"s{depth}", result=f"r{depth}")
    for level in range(depth, 0, -1):
        outer = f"s{level - 1}" if level > 1 else "x"
        result = f"r{level - 1}" if level > 1 else "y"
        inputs = f"int64 i{level}, bool g{level}, float[n{level}] s{level}"
        outputs = f"bool o{level}, float[m{level}] r{level}"
        nodes = f"o{level} = Identity(g{level}) {nodes}"
        body = f"b{level} ({inputs}) => ({outputs}) {{ {nodes} }}"
        nodes = f'{result} = Loop (trip, "", {outer}) <body = {body}>'
    return f"main (float[n] x, int64 trip) => (float[m] y) {{ {nodes} }}"


@pytest.mark.parametrize(
    "innermost",
    [
        "{result} = Concat <axis = 0> ({state}, {state})",
        "{result} = Identity({state})",
        "{result} = Exp({state})",
    ],
)
def test_nested_loops_are_imported_without_doubling(innermost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found out about an inner loop is not found out anew for each import of the body around it."""
    seen = []
    run_region = Region.run

    def counted(self: Region, proto: onnx.GraphProto) -> list[Value]:
        seen.append(proto.name)
        return run_region(self, proto)

    monkeypatch.setattr(Region, "run", counted)
    for depth in (3, 6, 12):
        seen.clear()
        model = import_model(Case("nested", _nested(depth, innermost), lambda rng: []).model())
        verify(model.graph)
        # Once more for each loop around.
        assert len(seen) <= depth * (depth + 3) // 2


def test_a_state_of_an_inner_loop_may_begin_to_vary() -> None:
    """Sizes decide a branch until the state around is found to grow: what was learned holds no more."""
    text = """main (float[2] x, int64 trip) => (float[m] y, float[k] z) {
      three = Constant <value_int = 3> ()
      y, z = Loop (trip, "", x, x) <body = outer (int64 i, bool g, float[a] s, float[a] t)
          => (bool o, float[b] r, float[b] u) {
          o = Identity(g)
          r = Concat <axis = 0> (s, x)
          n = Size(s)
          small = Less(n, three)
          u = Loop (trip, "", t) <body = inner (int64 j, bool h, float[c] v) => (bool p, float[d] w) {
              p = Identity(h)
              w = If (small) <then_branch = yes () => (float[e] e0) { e0 = Identity(v) },
                  else_branch = no () => (float[f] f0) { f0 = Exp(v) }>
            }>
        }>
    }"""
    case = Case("varying", text, lambda rng: [{"x": normal(rng, 2), "trip": number(t)} for t in (0, 1, 3)])
    model = import_model(case.model())
    verify(model.graph)
    judge = OnnxRuntime(case.model(), threads=1)
    for feeds in case.feeds(np.random.default_rng(0)):
        wanted = judge.run(feeds)
        found = evaluate(model.graph, feeds)
        assert_close([found["y"], found["z"]], [np.asarray(wanted["y"]), np.asarray(wanted["z"])])

"""Strings, sequences and optionals from end to end: arrays, lists and None in and out, packages, threads."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.api.host_plans import NODES_MEMBER, STEPS_MEMBER, from_members, to_members
from dlc.errors import IndexFault, InputError, PackageError, ShapeError, UnsupportedError
from tests.helpers.object_models import CASES, ObjectCase, X, assert_same, number, parse, strings


def compiled(text: str, **options: Any) -> dlc.CompiledModel:
    return dlc.compile(parse(text), cache=False, **options)


SEQUENCE = (
    "g (seq(float[a,4]) s, int64 i) => (float[n,4] y, seq(float[a,4]) z) "
    "{ x = SequenceAt(s,i) y = Mul(x,x) z = SequenceErase(s,i) }"
)
STRINGS = (
    "g (string[n] s, string[n] t) => (string[n] y, bool[n] m) "
    '{ y = StringConcat(s,t) m = RegexFullMatch<pattern="a+">(y) }'
)
OPTIONAL = (
    "g (optional(float[a,4]) o) => (bool h, optional(float[a,4]) p) "
    "{ h = OptionalHasElement(o) p = Identity(o) }"
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_models_agree_with_onnxruntime_and_after_loading(case: ObjectCase) -> None:
    with dlc.compile(case.model(), cache=False, threads=2) as model, dlc.load(model.to_bytes()) as loaded:
        assert sorted(host.operator for host in model.report().hosts) == sorted(case.hosts)
        for feeds, wanted in zip(case.feeds, case.results, strict=True):
            for each in (model, loaded):
                for actual, expected in zip(each(feeds), wanted, strict=True):
                    assert_same(actual, expected)


def test_strict_takes_what_dissolves_and_refuses_the_rest() -> None:
    for case in CASES:
        if case.hosts:
            with pytest.raises(UnsupportedError) as caught:
                dlc.compile(case.model(), cache=False, strict=True)
            assert len(caught.value.findings) == len(case.hosts)
        else:
            dlc.compile(case.model(), cache=False, strict=True).close()


def test_the_interface_says_what_it_takes() -> None:
    with compiled(SEQUENCE) as model, compiled(STRINGS) as texts:
        s, i = model.inputs
        assert (s.type, s.dtype, s.shape) == ("seq<f32[?, 4]>", np.dtype(np.float32), ()) and s.is_object
        assert not i.is_object and str(s) == "s: seq<f32[?, 4]>" and "seq<f32[?, 4]>" in repr(model)
        found = [(spec.dtype, spec.shape, spec.type) for spec in texts.inputs]
        assert found == [(np.dtype(object), ("n",), "")] * 2
        outputs = model(s=[X[0], X[1]], i=number(0))
        assert repr(outputs) == "Outputs(y: float32[3, 4], z: [float32[3, 4]])"
    session = dlc.InferenceSession(parse(SEQUENCE).SerializeToString())
    assert [(arg.type, arg.shape) for arg in session.get_inputs()] == [
        ("seq(tensor(float))", []),
        ("tensor(int64)", []),
    ]
    (y,) = session.run(["y"], {"s": [X[0]], "i": number(-1)})
    np.testing.assert_array_equal(y, X[0] * X[0])


@pytest.mark.parametrize(
    "value",
    [
        strings("a", "ab"),
        np.array(["a", "ab"]),
        np.array([b"a", b"ab"]),
        ["a", "ab"],
        ("a", np.str_("ab")),
        strings("?", "a", "?", "ab")[1::2],
    ],
    ids=["objects", "unicode", "bytes", "list", "tuple", "strided"],
)
def test_what_counts_as_strings(value: Any) -> None:
    with compiled(STRINGS) as model:
        y, m = model(value, strings("", "a"))
        assert y.tolist() == ["a", "aba"] and m.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "feeds", "error", "message"),
    [
        (STRINGS, {"s": strings("a", 1), "t": strings("a", "b")}, InputError, "must hold strings, not int"),
        (STRINGS, {"s": np.ones(2), "t": strings("a", "b")}, InputError, "must hold strings, not float64"),
        (STRINGS, {"s": np.array([b"\xff"]), "t": strings("a")}, InputError, "not UTF-8"),
        (STRINGS, {"s": strings("a"), "t": strings("a", "b")}, ShapeError, "must have shape"),
        (STRINGS, {"s": strings(["a"]), "t": strings("a")}, ShapeError, r"shape \[n\], not \[1, 1\]"),
        (STRINGS, {"s": strings("a")}, InputError, "missing input: t"),
        (SEQUENCE, {"s": X, "i": 0}, InputError, r"seq<f32\[\?, 4\]>, must be a list of arrays, not nda"),
        (SEQUENCE, {"s": [X[0], None], "i": 0}, InputError, "must be an array, not NoneType"),
        (SEQUENCE, {"s": None, "i": 0}, InputError, "must be a list of arrays, not NoneType"),
        (SEQUENCE, {"s": [X[0].astype(np.int64)], "i": 0}, InputError, "has a tensor of int64"),
        (SEQUENCE, {"s": [X[0, :, :3]], "i": 0}, ShapeError, r"f32\[3, 3\], but f32\[\?, 4\]"),
        (SEQUENCE, {"s": [X[0, 0]], "i": 0}, ShapeError, r"f32\[4\], but f32\[\?, 4\]"),
        (SEQUENCE, {"s": [], "i": 0}, IndexFault, "position 0 is outside"),
        (OPTIONAL, {"o": [X[0]]}, ShapeError, r"f32\[1, 3, 4\]"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, feeds: dict[str, Any], error: type, message: str) -> None:
    with compiled(text) as model, pytest.raises(error, match=message):
        model(feeds)


def test_faults_name_the_node_and_leave_the_model_usable() -> None:
    with compiled(SEQUENCE) as model:
        with pytest.raises(IndexFault, match=r"position 2 .*'SequenceAt_0'"):
            model(s=[X[0], X[1]], i=number(2))
        np.testing.assert_array_equal(model(s=[X[0]], i=number(0))["y"], X[0] * X[0])


def test_results_share_nothing_with_the_operands() -> None:
    with compiled(SEQUENCE) as model, compiled(STRINGS) as texts:
        parts = [X[0].copy(), X[1].copy()]
        z = model(s=parts, i=number(0))["z"]
        z[0][...] = 0
        assert parts[1].any() and model(s=parts, i=number(0))["z"][0].any()
        s = strings("a")
        y = texts(s, strings(""))["y"]
        y[0] = "z"
        assert s.tolist() == ["a"]


def test_optionals() -> None:
    with compiled(OPTIONAL) as model:
        h, p = model(X[0])
        assert h.item() and p.tolist() == X[0].tolist()
        h, p = model(None)
        assert not h.item() and p is None
        assert repr(model(None)) == "Outputs(h: bool[], p: None)"


def test_torch_tensors_in_and_out() -> None:
    torch = pytest.importorskip("torch")
    with compiled(SEQUENCE) as model:
        y, z = model(s=[torch.from_numpy(X[0]), torch.from_numpy(X[1])], i=1)
        assert isinstance(y, torch.Tensor) and isinstance(z[0], torch.Tensor)
        np.testing.assert_array_equal(z[0].numpy(), X[0])


def test_prepared_calls() -> None:
    with compiled(SEQUENCE) as model:
        position = number(0)
        call = model.prepare({"s": [X[0], X[1, :1]], "i": position})
        assert call()["y"].shape == (3, 4) and call()["z"][0].shape == (1, 4)
        position[...] = 1
        assert call()["y"].shape == (1, 4) and [part.shape for part in call()["z"]] == [(3, 4)]
        with pytest.raises(InputError, match="only the run makes this output"):
            model.prepare({"s": [X[0]], "i": position}, out={"z": X[0]})


def test_many_threads_in_one_model() -> None:
    """Each call has objects of its own."""
    with compiled(SEQUENCE, threads=1) as model, compiled(STRINGS) as texts:
        wrong: list[str] = []

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(30):
                parts = [rng.standard_normal((rng.integers(1, 9), 4)).astype(np.float32) for _ in range(3)]
                at = int(rng.integers(3))
                y, z = model(s=parts, i=number(at))
                if not (np.array_equal(y, parts[at] ** 2) and len(z) == 2):
                    wrong.append(f"sequence {seed}")
                word = f"w{seed}"
                if texts(strings(word), strings("x"))["y"].tolist() != [word + "x"]:
                    wrong.append(f"string {seed}")

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_nothing_of_a_run_is_kept() -> None:
    import weakref

    class Watched(np.ndarray):
        pass

    with compiled(SEQUENCE) as model:
        part = X[0].copy().view(Watched)
        watch = weakref.ref(part)
        model(s=[part], i=number(0))
        del part
        gc.collect()
        assert watch() is None


def test_pickle_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    feeds = {"s": [X[0]], "i": number(0)}
    content = parse(SEQUENCE).SerializeToString()
    for phases in (("hash", "import", "optimize", "lower", "generate"), ("hash", "cache")):
        with dlc.compile(content) as model:
            assert tuple(name for name, _ in model.report().phases) == phases
            assert_same(model(feeds)["y"], X[0] * X[0])
            with pickle.loads(pickle.dumps(model)) as again:
                assert_same(again(feeds)["z"], [])


LOADING = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        compiler = ("dlc.frontend", "dlc.passes", "dlc.lowering", "dlc.backends")
        if name.partition(".")[0] == "onnx" or name.startswith(compiler):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np, dlc
model = dlc.load(sys.argv[1])
print(model(np.array(["a", "b"], object), np.array(["", "b"], object))["y"].tolist())
"""


def test_packages_load_without_onnx_and_the_compiler(tmp_path: Path) -> None:
    path = tmp_path / "m.dlc"
    with compiled(STRINGS) as model:
        model.save(path)
    ran = subprocess.run([sys.executable, "-c", LOADING, str(path)], capture_output=True, text=True)
    assert ran.stdout == "['a', 'bb']\n", ran.stderr


def damaged(text: bytes, old: bytes, new: bytes) -> bytes:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("member", "old", "new"),
    [
        (STEPS_MEMBER, b'"slots": 4', b'"slots": 1'),
        (STEPS_MEMBER, b'"slots": 4', b'"slots": 99999999999'),
        (STEPS_MEMBER, b'"kind": "measure"', b'"kind": "other"'),
        (STEPS_MEMBER, b'"symbol": 0', b'"symbol": 77'),
        (STEPS_MEMBER, b'"symbols"', b'"symbol"'),
        (STEPS_MEMBER, b"}", b""),
        (NODES_MEMBER, b"SequenceAt(", b"Nothing("),
        (NODES_MEMBER, b"graph host {", b"graph host"),
        (NODES_MEMBER, b"= Sequence", b"= Identity"),
    ],
)
def test_damaged_host_steps_are_refused(member: str, old: bytes, new: bytes) -> None:
    constant = '{ u = Constant<value_strings=["q"]>() x'
    text = SEQUENCE.replace("=> (", "=> (string[k] u, ").replace("{ x", constant)
    with compiled(text) as model:
        plan = model._artifact.hosts
        assert plan is not None
        members = to_members(plan)
        assert from_members(members) is not None and from_members({}) is None
        members[member] = damaged(members[member], old, new)
        with pytest.raises(PackageError):
            from_members(members)

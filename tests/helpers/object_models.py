"""Models with strings, sequences and optionals, inputs for them, and what is right."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 7


def strings(*content: Any) -> np.ndarray[Any, Any]:
    """An array of strings."""
    return np.array(content, object)


@dataclass(frozen=True)
class ObjectCase:
    """A model as ONNX text, and inputs; `hosts` are the operators that cannot but run on the host.

    onnxruntime is the judge, but for the results in `expected`.
    """

    name: str
    text: str
    feeds: Sequence[dict[str, Any]]
    hosts: tuple[str, ...] = ()
    opset: int = 20
    expected: Sequence[list[Any]] | None = None

    def model(self) -> onnx.ModelProto:
        """The model."""
        return parse(self.text, self.opset)

    @functools.cached_property
    def results(self) -> Sequence[list[Any]]:
        """The right outputs for each of the inputs."""
        if self.expected is not None:
            return self.expected
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(self.model().SerializeToString(), options)
        return [session.run(None, feeds) for feeds in self.feeds]


def parse(text: str, opset: int = 20) -> onnx.ModelProto:
    """A model from ONNX's text; each node is named after its operator and position."""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> {text}')
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return model


def assert_same(actual: Any, expected: Any) -> None:
    """The same kind of value: equal strings, arrays of the same type, shape and, nearly, numbers."""
    if isinstance(expected, list):
        assert isinstance(actual, list) and len(actual) == len(expected)
        for one, other in zip(actual, expected):
            assert_same(one, other)
    elif expected is None:
        assert actual is None
    else:
        assert isinstance(actual, np.ndarray) and actual.shape == expected.shape
        assert actual.dtype == expected.dtype, f"{actual.dtype}, not {expected.dtype}"
        if expected.dtype == object:
            assert actual.tolist() == expected.tolist()
            assert all(type(text) is str for text in actual.reshape(-1).tolist())
        else:
            np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


def number(value: int) -> np.ndarray[Any, Any]:
    """A scalar."""
    return np.array(value, np.int64)


CASES = [
    # --- sequences that dissolve: everything runs natively
    ObjectCase(
        "unbind",
        "g (float[n,3,4] x) => (float[a,4] first, float[b,4] last) { p = Constant<value_int=0>() "
        "q = Constant<value_int=-1>() s = SplitToSequence<axis=1,keepdims=0>(x) "
        "first = SequenceAt(s,p) last = SequenceAt(s,q) }",
        [{"x": X}, {"x": X[:1]}],
    ),
    ObjectCase(
        "unbind at a run-time position",
        "g (float[n,3,4] x, int32 p) => (float[3,4] y, float[1,3,4] z) { "
        "s = SplitToSequence<axis=0,keepdims=0>(x) y = SequenceAt(s,p) "
        "t = SplitToSequence<axis=0>(x) z = SequenceAt(t,p) }",
        [{"x": X, "p": np.array(p, np.int32)} for p in (0, 1, -1)],
    ),
    ObjectCase(
        "chunks",
        "g (float[n,3,4] x) => (float[a,b,c] y, float[d,e,f] z, int64 l, float[u,v,w] all) { "
        "two = Constant<value_int=2>() p = Constant<value_int=1>() s = SplitToSequence<axis=1>(x,two) "
        "y = SequenceAt(s,p) m = Constant<value_int=-2>() z = SequenceAt(s,m) l = SequenceLength(s) "
        "all = ConcatFromSequence<axis=1>(s) }",
        [{"x": X}],
    ),
    ObjectCase(
        "chunks of a batch of any size",
        "g (float[n,4] x) => (float[a,4] y, float[b,4] z, int64 l) { two = Constant<value_int=2>() "
        "p = Constant<value_int=1>() q = Constant<value_int=-1>() s = SplitToSequence(x,two) "
        "y = SequenceAt(s,p) z = SequenceAt(s,q) l = SequenceLength(s) }",
        [{"x": X.reshape(6, 4)[:n]} for n in (3, 4, 6)],
    ),
    ObjectCase(
        "parts whose extents are inputs",
        "g (float[n,3,4] x, int64[2] c) => (float[a,b,d] y, float[e,f,g] z) { p = Constant<value_int=1>() "
        "s = SplitToSequence<axis=1>(x,c) y = SequenceAt(s,p) z = ConcatFromSequence<axis=0>(t) "
        "o = Constant<value_int=0>() h = SequenceErase(s,o) t = SequenceInsert(h,y) }",
        [{"x": X, "c": np.array([1, 2])}, {"x": X, "c": np.array([3, 0])}],
    ),
    ObjectCase(
        "lists",
        "g (float[n,4] x, float[m,4] y) => (float[a,4] z, float[p,q,4] st) { e = SequenceEmpty() "
        "a0 = SequenceInsert(e,x) o = Constant<value_int=0>() b0 = SequenceInsert(a0,y,o) "
        "z = ConcatFromSequence<axis=-2>(b0) c0 = SequenceConstruct(x,x) "
        "st = ConcatFromSequence<axis=1,new_axis=1>(c0) }",
        [{"x": X[0], "y": X[1, :2]}],
    ),
    ObjectCase(
        "a sequence read within a branch",
        "g (float[n,3,4] x, bool c) => (float[a,b] y) { s = SplitToSequence<axis=1,keepdims=0>(x) "
        "y = If(c) <then_branch = t () => (float[a1,b1] u) { "
        "p = Constant<value_int=2>() u = SequenceAt(s,p) }, "
        "else_branch = e () => (float[a2,b2] v) { q = Constant<value_int=0>() w = SequenceAt(s,q) "
        "v = Neg(w) }> }",
        [{"x": X, "c": np.array(c)} for c in (True, False)],
    ),
    ObjectCase(
        "a loop appends tensors of one shape",
        "g (float[n,3,4] x, int64 k, bool c) => (float[a,3,4] st, float[b,4] y, float[3,4] z, int64 l) { "
        "e = SequenceEmpty() s = Loop(k,c,e) "
        "<body = b (int64 i, bool cc, seq(float[]) st) => (bool co, seq(float[]) so) { co = Identity(cc) "
        "row = Gather(x,i) r = Relu(row) so = SequenceInsert(st,r) }> "
        "st = ConcatFromSequence<axis=0,new_axis=1>(s) y = ConcatFromSequence<axis=0>(s) "
        "p = Constant<value_int=-1>() z = SequenceAt(s,p) l = SequenceLength(s) }",
        [{"x": X, "k": number(k), "c": np.array(True)} for k in (1, 2)],
    ),
    ObjectCase(
        "a loop over the rows of a tensor, as PyTorch unbinds it",
        "g (float[n,3,4] x, bool c) => (float[a,b] y, float[u,v,w] t) { one = Constant<value_int=1>() "
        "s = SplitToSequence<axis=0,keepdims=0>(x,one) l = SequenceLength(s) e = SequenceEmpty() "
        "r = Loop(l,c,e) <body = b (int64 i, bool cc, seq(float[]) st) => (bool co, seq(float[]) so) { "
        "co = Identity(cc) row = SequenceAt(s,i) m = Neg(row) so = SequenceInsert(st,m) }> "
        "y = ConcatFromSequence<axis=-1>(r) t = ConcatFromSequence<axis=2,new_axis=1>(r) }",
        [{"x": X, "c": np.array(True)}, {"x": X[:1], "c": np.array(True)}],
    ),
    ObjectCase(
        "the body of a map, inlined",
        "g (float[3,4] x) => (float[w,4] y) { q = SplitToSequence<axis=0>(x) "
        "s = SequenceMap(q,x) <body = b (float[a,4] e, float[n,4] w) => (float[p,4] o) { o = Add(e,w) }> "
        "y = ConcatFromSequence<axis=0>(s) }",
        [{"x": X[0]}],
    ),
    ObjectCase(
        "optionals that are known",
        "g (float[n] x) => (float[m] y, bool h) { o = Optional(x) h = OptionalHasElement(o) "
        "y = OptionalGetElement(o) }",
        [{"x": X[0, 0]}],
    ),
    # --- sequences as such
    ObjectCase(
        "sequences in and out",
        "g (seq(float[a,b]) s, float[p,q] x, int64 i) => (seq(float[]) t, int64 n, float[u,v] w) { "
        "l = SequenceInsert(s,x,i) t = SequenceErase(l,i) n = SequenceLength(l) w = SequenceAt(l,i) }",
        [{"s": [X[0], X[1, :1]], "x": X[1], "i": number(i)} for i in (-1, 0, 1)],
        ("SequenceInsert", "SequenceErase", "SequenceLength", "SequenceAt"),
    ),
    ObjectCase(
        "a tensor from a sequence goes on natively",
        "g (seq(float[a,4]) s, int64 i) => (float[n,4] y, float[m,4] z) { x = SequenceAt(s,i) y = Mul(x,x) "
        "c = ConcatFromSequence<axis=0>(s) z = Relu(c) }",
        [{"s": [X[0], X[1, :1]], "i": number(i)} for i in (0, 1, -2)],
        ("SequenceAt", "ConcatFromSequence"),
    ),
    ObjectCase(
        "tensors of unknown rank pass",
        "g (seq(float[]) s) => (float[] y, seq(float[]) z) { p = Constant<value_int=0>() y = SequenceAt(s,p) "
        "z = SequenceInsert(s,y) }",
        [{"s": [X[0], X[1, 0]]}],
        ("SequenceAt", "SequenceInsert"),
    ),
    ObjectCase(
        "a branch chooses a sequence",
        "g (float[n,4] x, bool c) => (seq(float[a,4]) s) { s = If(c) "
        "<then_branch = t () => (seq(float[a,4]) u) { u = SplitToSequence<axis=0>(x) }, "
        "else_branch = e () => (seq(float[a,4]) v) { v = SequenceConstruct(x,x) }> }",
        [{"x": X[0], "c": np.array(c)} for c in (True, False)],
        ("SplitToSequence", "SequenceConstruct"),
    ),
    ObjectCase(
        "a loop gathers a sequence",
        "g (seq(float[a,b]) s, int64 k, bool c) => (float[n,b] y) { e = SequenceEmpty() "
        "t = Loop(k,c,e) <body = b (int64 i, bool cc, seq(float[u,v]) st) => (bool co, seq(float[u,v]) so) { "
        "co = Identity(cc) a = SequenceAt(s,i) r = Relu(a) so = SequenceInsert(st,r) }> "
        "y = ConcatFromSequence<axis=0>(t) }",
        [{"s": [X[0], X[1] - 20], "k": number(k), "c": np.array(True)} for k in (1, 2)],
        ("SequenceConstruct", "SequenceAt", "SequenceInsert", "ConcatFromSequence"),
    ),
    ObjectCase(
        "a map over a sequence",
        "g (seq(float[n]) s, float[m] x) => (seq(float[k]) y, seq(float[l]) z) { y,z = SequenceMap(s,x) "
        "<body = b (float[p] e, float[q] w) => (float[k] o, float[l] r) { "
        "o = Concat<axis=0>(e,w) r = Identity(w) }> }",
        [{"s": [X[0, 0], X[0, 1, :2]], "x": X[1, 1, :3]}, {"s": [], "x": X[1, 1, :3]}],
        ("SequenceConstruct", "SequenceLength", "SequenceAt", "SequenceInsert", "SplitToSequence"),
    ),
    ObjectCase(
        "a map over the rows of a tensor of any size",
        "g (float[n,4] x, float[4] w) => (float[a,4] y) { q = SplitToSequence<axis=0,keepdims=0>(x) "
        "s = SequenceMap(q,w) <body = b (float[4] e, float[4] f) => (float[4] o) { o = Add(e,f) }> "
        "y = ConcatFromSequence<axis=0,new_axis=1>(s) }",
        [{"x": X[0], "w": X[1, 0]}, {"x": X[0, :1], "w": X[1, 0]}],
    ),
    ObjectCase(
        "optionals as inputs",
        "g (optional(float[n]) o) => (bool h, float[m] y, optional(float[k]) p) { h = OptionalHasElement(o) "
        "p = Identity(o) y = If(h) "
        "<then_branch = t () => (float[k1] a) { q = OptionalGetElement(o) a = Neg(q) }, "
        "else_branch = e () => (float[k2] b) { b = Constant<value_floats=[5.0]>() }> }",
        [{"o": X[0, 0]}, {"o": None}],
        ("OptionalHasElement", "OptionalGetElement"),
    ),
    # --- strings
    ObjectCase(
        "strings",
        "g (string[n] s, bool[n] b, string[n] t) => (string[n] y, bool[n] e, string[n] w, string[a,c] p, "
        "int64[n] l, int64[1] h) { y = StringConcat(s,t) e = Equal(s,t) w = Where(b,s,t) "
        'p,l = StringSplit<delimiter="a">(y) h = Shape(y) }',
        [{"s": strings("ab", "b"), "b": np.array([True, False]), "t": strings("ab", "xaxay")}],
        ("StringConcat", "Compare", "Where", "StringSplit"),
    ),
    ObjectCase(
        "movements of strings",
        "g (string[n,2] s) => (string[2,n] t, string[m] r, string[a,2] c, string[b,d] k, string[e,f] x, "
        "string[g0,h0] l) { t = Transpose(s) sh = Constant<value_ints=[-1]>() r = Reshape(s,sh) "
        "c = Concat<axis=0>(s,s) rep = Constant<value_ints=[2,1]>() k = Tile(s,rep) "
        "one = Constant<value_ints=[1]>() far = Constant<value_ints=[9]>() l = Slice(s,one,far) "
        'q = Constant<value_ints=[1,2]>() w = Constant<value_strings=["p","q"]>() v = Reshape(w,q) '
        "big = Constant<value_ints=[3,2]>() x = Expand(v,big) }",
        [{"s": strings(["a", "b"], ["c", "ä"])}],
        ("Transpose", "Reshape", "Concat", "Tile", "Slice"),
    ),
    ObjectCase(
        "strings at positions",
        "g (string[n] s, int64[k] i) => (string[k] y, string[n] z, string[m] u, int64[n] v) { "
        "y = Gather(s,i) z = ScatterElements(s,i,y) u,a,v = Unique(s) }",
        [{"s": strings("b", "a", "b"), "i": np.array([2, 1])}],
        ("Gather", "ScatterElements", "Reshape", "Distinct", "Gather"),
        expected=[[strings("b", "a"), strings("b", "a", "b"), strings("a", "b"), np.array([1, 0, 1])]],
    ),
    ObjectCase(
        "casts",
        "g (string[n] s, float[m] x, int64[m] i) => (float[n] f, int64[n] k, string[m] y, string[m] z) { "
        "f = Cast<to=1>(s) k = Cast<to=7>(s) y = Cast<to=8>(x) z = Cast<to=8>(i) }",
        [
            {
                "s": strings("15", "-2"),
                "x": np.array([1.5, np.inf, 3], np.float32),
                "i": np.array([1, -2, 3]),
            }
        ],
        ("Cast", "Cast", "Cast", "Cast"),
    ),
    ObjectCase(
        "patterns, cases and n-grams",
        "g (string[n] s, string[1,m] t, int64[k] i) => (bool[n] r, string[1,a] u, float[4] v, float[3] w) { "
        'r = RegexFullMatch<pattern="(a|b)+c?">(s) '
        'u = StringNormalizer<case_change_action="UPPER",stopwords=["a"],locale="C.UTF-8">(t) '
        'v = TfIdfVectorizer<mode="TFIDF",ngram_counts=[0,2],ngram_indexes=[3,0,1],'
        'pool_strings=["abc","b","b","abc"],'
        "weights=[2.0,3.0,4.0],min_gram_length=1,max_gram_length=2,max_skip_count=1>(s) "
        'w = TfIdfVectorizer<mode="IDF",ngram_counts=[0],ngram_indexes=[0,2],pool_int64s=[5,7],'
        "min_gram_length=1,max_gram_length=1,max_skip_count=0>(i) }",
        [{"s": strings("abc", "b", "cc", "abc"), "t": strings(["a", "bé", "A"]), "i": np.array([7, 7, 1])}],
        ("RegexFullMatch", "StringNormalizer", "TfIdf", "TfIdf"),
    ),
    ObjectCase(
        "branches and loops over strings",
        "g (string[n] s, int64 k, bool c, bool on) => (string[m] y, string[a] z, string[b,n] w) { y = If(c) "
        "<then_branch = t () => (string[n1] u) { u = StringConcat(s,s) }, "
        "else_branch = e () => (string[n2] v) { v = Identity(s) }> "
        "z,w = Loop(k,on,s) "
        "<body = b (int64 i, bool cc, string[p] st) => (bool co, string[q] so, string[r] el) { "
        "co = Identity(cc) so = Concat<axis=0>(st,s) el = StringConcat(s,s) }> }",
        [
            {"s": strings("a", "b"), "k": number(k), "c": np.array(c), "on": np.array(True)}
            for k, c in ((3, True), (1, False))
        ],
        ("StringConcat", "Concat", "StringConcat", "Expand"),
    ),
    ObjectCase(
        "a loop over strings without an iteration",
        "g (string[n] s, int64 k) => (string[b,n] w) { c = Constant<value_int=1>() on = Cast<to=9>(c) "
        "w = Loop(k,on) <body = b (int64 i, bool cc) => (bool co, string[r] el) { "
        "co = Identity(cc) el = StringConcat(s,s) }> }",
        [{"s": strings("a", "b"), "k": number(k)} for k in (0, 2)],
        ("StringConcat", "Expand"),
        expected=[[np.empty((0, 2), object)], [strings(["aa", "bb"], ["aa", "bb"])]],
    ),
    ObjectCase(
        "sequences of strings",
        "g (string[n] s) => (seq(string[m]) f, string[b] y) { f = SplitToSequence<axis=0>(s) "
        "p = Constant<value_int=1>() y = SequenceAt(f,p) }",
        [{"s": strings("a", "bé", "A")}],
        ("SplitToSequence", "Slice"),
    ),
]

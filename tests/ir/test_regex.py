"""Regular expressions: what matches, what is refused, against RE2 in onnxruntime; time linear in the text."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dlc.ir.regex import PatternError, PatternTooLarge, UnsupportedPattern, compile_pattern

TEXTS = (
    "abc|a\nc|ABC|aa|12|ab|a|Ωα|a.b||\n|A|k\u212a|sſ|ß|ẞ|ab\n|a_b|aXb|-|^|é|aaaaaaaaaa|b|]|a-z|{2|a{2|İ|ı".split(
        "|"
    )
)
PATTERNS = r"""
a.c|||(?i)ABC|||a{2,3}|||\d+|||[[:alpha:]]+|||(?P<x>a)|||(?<x>a)b|||a$|||^a|||(?m)^a$|||\bab\b|||\pL+|||(a|b)*c
|||\Qa.b\E|||[^a]|||.|||(?s).|||\w+|||\x{41}|||\101|||(?i)ks|||(?i)[k]+|||(?i)kk|||(?i)ss|||(?i)ß|||(?i)[a-z]+
|||^*|||(^)*a|||a{,3}|||a{2|||a??|||a*?|||[]a]|||[^]a]+|||[a-]|||[-a]|||[a-b-c]|||[[:^alpha:]]+|||\pN
|||\p{Lu}+|||\P{Lu}+|||\p{^Lu}+|||[\pL\d]+|||(?i-s:A).|||a\z|||\Aa|||\-|||\07|||(?U)a+|||a||b|||(|a)+|||(a*)*
|||(a|aa)+|||[[:word:]-]+|||\Qab|||a{0}|||(a){3}|||(?i)\PL|||(?i)\p{Lu}|||\s|||[^\n]|||(?im)A$.b|||\b|||\B
|||(?i)i|||[\x{1F600}]|||a\b.|||[\w-\d]|||(?i)[^k]|||(?)a|||\_|||(?P<n>a)(?P<n>b)|||\P{Any}|||[a-\x62]+
""".replace("\n", "").split("|||")
WRONG = r"""
(?=a)a|||(a)\1|||a**|||x{1001}|||a++|||[a|||(?:a|||(((a{100}){100}){100})|||(*)|||a{2}{3}|||[z-a]|||[[:foo:]]|||a\Z
|||\8|||\08b\y|||\x4|||\x{110000}|||a)|||(|||(?P=n)|||(?x)a|||\p{Foo}|||[a-\d]|||\|||[\|||x**|||*a|||a{3,2}|||a|*|||a*??|||(?i|||[\Q]|||\C
""".replace("\n", "").split("|||")


def re2(pattern: str, texts: list[str]) -> list[bool] | None:
    """What onnxruntime's RegexFullMatch says; None where RE2 refuses the pattern."""
    import onnxruntime

    x = helper.make_tensor_value_info("x", TensorProto.STRING, ["n"])
    node = helper.make_node("RegexFullMatch", ["x"], ["y"], pattern=pattern)
    graph = helper.make_graph([node], "g", [x], [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    except Exception:
        return None
    (result,) = session.run(None, {"x": np.array(texts, object)})
    return list(result.tolist())


def ours(pattern: str, texts: list[str]) -> list[bool] | None:
    try:
        return list(map(compile_pattern(pattern).matches, texts))
    except PatternError:
        return None


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_match_as_in_re2(pattern: str) -> None:
    result = ours(pattern, TEXTS)
    assert result is not None and result == re2(pattern, TEXTS)


@pytest.mark.parametrize("pattern", WRONG)
def test_patterns_that_are_refused(pattern: str) -> None:
    assert ours(pattern, TEXTS) is None
    if pattern != r"\C":
        assert re2(pattern, TEXTS) is None


ATOMS = r"a b c . \d [ab] [^a] [a-c1] ^ $ \b \B 1 \w (?i:B) (?s:.) (?m:^) (?m:$) \n é".split()
ATOMS += r"[[:digit:]] \pL | (?i) \W".split()


def random_pattern(rng: random.Random, depth: int) -> str:
    kind = rng.random()
    if depth == 0 or kind < 0.3:
        return rng.choice(ATOMS)
    inner = random_pattern(rng, depth - 1)
    if kind < 0.55:
        return inner + random_pattern(rng, depth - 1)
    if kind < 0.7:
        return f"({inner}|{random_pattern(rng, depth - 1)})"
    return f"(?:{inner})" + rng.choice(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", ""])


def test_random_patterns_match_as_in_re2() -> None:
    rng = random.Random(7)
    texts = ["".join(rng.choices("aabbc1\nBé _", k=rng.randint(0, 6))) for _ in range(40)]
    for _ in range(150):
        pattern = random_pattern(rng, 4)
        assert ours(pattern, texts) == re2(pattern, texts), pattern


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a+a+)+b", "(a|a)*b", "(a|aa)+b", "(.*)*x(.*)*y"])
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    assert not compile_pattern(pattern).matches("a" * 5000)


def test_the_automaton_and_its_memory_are_bounded() -> None:
    assert compile_pattern("(a?){300}a{300}").matches("a" * 400)
    for large in ("(abcdefghij){1000}x{1000}", "(" * 300 + "a" + ")" * 300, "a" * 200_000):
        with pytest.raises(PatternTooLarge):
            compile_pattern(large)
    found: Any = compile_pattern("(?s:.)*a")
    for _ in range(3):
        text = "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))
        assert not found.matches(text)
        assert len(found._steps) <= 20_000


def test_what_is_not_offered_says_so() -> None:
    with pytest.raises(UnsupportedPattern, match="Greek"):
        compile_pattern(r"\p{Greek}")
    with pytest.raises(UnsupportedPattern, match="byte"):
        compile_pattern(r"a\Cb")

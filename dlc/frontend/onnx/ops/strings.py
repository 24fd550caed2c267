"""Importers of the operators on strings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlc.errors import LimitError
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.open_results import bind_extents, with_symbols
from dlc.frontend.onnx.operands import broadcast_operands
from dlc.frontend.onnx.registry import importer
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.ngrams import TfIdf
from dlc.ir.ops.strings import RegexFullMatch, StringConcat, StringNormalizer, StringSplit
from dlc.ir.regex import PatternError, PatternTooLarge, UnsupportedPattern, compile_pattern

#: Languages whose letters have other upper and lower cases than everywhere else.
_SPECIAL_CASES = frozenset({"az", "lt", "tr"})


@importer("StringConcat", since=20)
def string_concat(ctx: NodeContext) -> Value:
    """Strings joined element by element."""
    return ctx.add(StringConcat(), *broadcast_operands(ctx, ctx.required(0), ctx.required(1)))


@importer("StringSplit", since=20)
def string_split(ctx: NodeContext) -> Sequence[Value]:
    """Parts of strings, and their numbers; an empty delimiter stands for whitespace."""
    x = ctx.required(0)
    limit = ctx.int("maxsplit") if ctx.has("maxsplit") else None
    if limit is not None and limit < 0:
        ctx.fail(f"attribute 'maxsplit' is {limit}, a negative number", "model/attribute")
    type_, symbols = with_symbols(ctx, DType.STRING, (*x.tensor.shape, None))
    results = ctx.add_all(StringSplit(ctx.string("delimiter", "") or None, limit, type_), x)
    bind_extents(ctx, symbols, results[0])
    return results


@importer("RegexFullMatch", since=20)
def regex_full_match(ctx: NodeContext) -> Value:
    """Whether strings match a pattern as a whole."""
    pattern = ctx.string("pattern")
    try:
        compile_pattern(pattern)
    except UnsupportedPattern as error:
        ctx.unsupported(f"attribute 'pattern': {error}")
    except PatternTooLarge as error:
        raise LimitError(f"attribute 'pattern': {error}", node=ctx.name) from None
    except PatternError as error:
        ctx.fail(f"attribute 'pattern' is no regular expression of RE2: {error}", "model/attribute")
    return ctx.add(RegexFullMatch(pattern), ctx.required(0))


@importer("StringNormalizer", since=10)
def string_normalizer(ctx: NodeContext) -> Value:
    """Strings without stop words, in another case if wanted."""
    x = ctx.required(0)
    case = ctx.string("case_change_action", "NONE")
    if case not in ("NONE", "LOWER", "UPPER"):
        ctx.fail(
            f"attribute 'case_change_action' is {case!r}, none of NONE, LOWER and UPPER", "model/attribute"
        )
    sensitive, stopwords = bool(ctx.int("is_case_sensitive", 0)), ctx.strings("stopwords", ())
    language = ctx.string("locale", "en_US")[:2].lower()
    if language in _SPECIAL_CASES and (case != "NONE" or (stopwords and not sensitive)):
        ctx.unsupported(f"upper and lower case of locale {ctx.string('locale')!r} are not offered")
    shape = x.tensor.shape
    if not shape:
        ctx.fail(f"the operand must be a vector or a matrix of one row, but is {x.type}", "model/type")
    keeps_all = not stopwords and isinstance(shape[-1], int) and shape[-1] > 0
    count = shape[-1] if keeps_all else None
    type_, symbols = with_symbols(ctx, DType.STRING, (*shape[:-1], count))
    result = ctx.add(StringNormalizer(case.lower(), sensitive, stopwords, type_), x)
    bind_extents(ctx, symbols, result)
    return result


@importer("TfIdfVectorizer", since=9)
def tf_idf_vectorizer(ctx: NodeContext) -> Value:
    """Counts or weights of n-grams."""
    x = ctx.required(0)
    mode = ctx.string("mode")
    if mode not in ("TF", "IDF", "TFIDF"):
        ctx.fail(f"attribute 'mode' is {mode!r}, none of TF, IDF and TFIDF", "model/attribute")
    pools = [key for key in ("pool_int64s", "pool_strings") if ctx.has(key)]
    wanted = "pool_strings" if x.tensor.dtype is DType.STRING else "pool_int64s"
    if pools != [wanted]:
        ctx.fail(f"operands of {x.tensor.dtype.text} need attribute '{wanted}' alone", "model/attribute")
    strings = wanted == "pool_strings"
    pool = np.array(ctx.strings(wanted) if strings else ctx.ints(wanted), object if strings else np.int64)
    outputs, weights = ctx.ints("ngram_indexes"), ctx.floats("weights", ())
    shortest, longest = ctx.int("min_gram_length"), ctx.int("max_gram_length")
    skips = ctx.int("max_skip_count")
    if not outputs or min(outputs) < 0 or (weights and len(weights) != len(outputs)):
        ctx.fail(f"{len(outputs)} 'ngram_indexes' with {len(weights)} 'weights'", "model/attribute")
    if not 1 <= shortest <= longest or skips < 0:
        ctx.fail(f"n-grams of {shortest} to {longest} items with {skips} skips", "model/attribute")
    size = max(outputs) + 1
    ctx.importer.limits.check("tensor_elements", size, "outputs of a TfIdfVectorizer", node=ctx.name)
    operands = [
        ctx.builder.constant(pool, "pool"),
        ctx.const(ctx.ints("ngram_counts"), DType.I64),
        ctx.const(outputs, DType.I64),
    ]
    operator = TfIdf(mode.lower(), shortest, longest, skips, size)
    return ctx.add(operator, x, *operands, ctx.const(np.array(weights), DType.F32) if weights else None)

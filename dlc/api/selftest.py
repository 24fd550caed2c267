"""The self-test of a package: a recipe for inputs, and what the model makes of them.

Inputs are made of integers by an exact hash, so that every machine and every NumPy makes the same ones. The
same code gives the same bits on any machine that runs it; the digests hold for that. Other code (another
target of the package) is judged by the statistics and samples.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.api.specs import numpy_dtype
from dlc.errors import Error, IndexFault, PackageError, ShapeError
from dlc.ir.dims import Symbol, evaluate, parse
from dlc.ir.dtypes import DType
from dlc.runtime.codec import Json, decode, encode
from dlc.runtime.manifest import TensorInfo

if TYPE_CHECKING:
    from dlc.api.model import CompiledModel

#: Where a manifest's `extra` holds the self-test, and the :class:`Numerics`.
KEY = "self_test"
NUMERICS = "numerics"
#: The most elements of all inputs together: a self-test is no benchmark.
MOST_ELEMENTS = 1 << 24
#: The most values of an output that are stored.
SAMPLES = 8

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class InputRecipe:
    """An input of the self-test: uniform numbers of [low, high), rounded down for integers."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Sample:
    """One element of an output, by its flat index; wide integers are rounded to float64."""

    index: int
    value: float


@dataclass(frozen=True)
class OutputRecord:
    """What an output was: the SHA-256 of its bytes by target; RMS and greatest magnitude of its finite
    elements, how many are NaN or infinite, and some of the finite ones.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    digests: Mapping[str, str]
    rms: float
    largest: float
    nonfinite: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class SelfTest:
    """Everything that it takes to repeat the test."""

    seed: int
    inputs: tuple[InputRecipe, ...]
    outputs: tuple[OutputRecord, ...]

    def arrays(self) -> dict[str, Array]:
        """The inputs by name."""
        return {recipe.name: draw(recipe, self.seed) for recipe in self.inputs}


@dataclass(frozen=True)
class Numerics:
    """What decides how exact results can be: the model's coarsest float type, and whether it is quantized."""

    coarsest: str = "f32"
    quantized: bool = False


def stored(model: CompiledModel) -> SelfTest | None:
    """The self-test that a model's package holds; PackageError if it is malformed."""
    manifest = model.manifest
    data = manifest.extra.get(KEY)
    if data is None:
        return None
    test: SelfTest = decode(SelfTest, data, KEY)
    parts: tuple[InputRecipe | OutputRecord, ...] = (*test.inputs, *test.outputs)
    given = tuple((part.name, part.dtype) for part in parts)
    if given != tuple((info.name, info.dtype) for info in (*manifest.inputs, *manifest.outputs)):
        raise PackageError("the package's self-test is for another interface")
    if _elements(test.inputs) > MOST_ELEMENTS or not all(map(_is_sound, test.outputs)):
        raise PackageError("the package's self-test has sizes or places that are out of bounds")
    return test


def stored_numerics(model: CompiledModel) -> Numerics:
    """What a model's package says of its numbers; PackageError if that is malformed."""
    numerics: Numerics = decode(Numerics, model.manifest.extra.get(NUMERICS, {}), NUMERICS)
    if numerics.coarsest not in {dtype.text for dtype in DType if dtype.is_float}:
        raise PackageError("the package names an unknown float type")
    return numerics


def _elements(parts: Iterable[InputRecipe]) -> int:
    """Elements of all inputs; more than can be for a negative extent."""
    shapes = [part.shape for part in parts]
    if any(extent < 0 for shape in shapes for extent in shape):
        return MOST_ELEMENTS + 1
    return sum(math.prod(shape) for shape in shapes)


def _is_sound(record: OutputRecord) -> bool:
    """Whether the samples of an output are elements of it."""
    count = math.prod(record.shape)
    return min(record.shape, default=0) >= 0 and all(0 <= sample.index < count for sample in record.samples)


def record(model: CompiledModel, seed: int = 0) -> Json:
    """A self-test as JSON-compatible data; None where no inputs are found that the model takes, where its
    results are random, or where an input or output is no tensor of numbers.

    Symbolic extents are tried from small to large, and numbers of ids and masks that are safe.
    """
    if any(spec.is_object for spec in (*model.inputs, *model.outputs)):
        return None
    for recipes in _attempts(model):
        arrays = {recipe.name: draw(recipe, seed) for recipe in recipes}
        try:
            outputs, again = model(arrays), model(arrays)
        except (IndexFault, ShapeError):
            continue
        except Error:
            return None
        if any(digest(one) != digest(other) for one, other in zip(outputs, again, strict=True)):
            return None
        pairs = zip(model.manifest.outputs, outputs, strict=True)
        return encode(SelfTest(seed, recipes, tuple(_record(i, a, model.target) for i, a in pairs)))
    return None


def draw(recipe: InputRecipe, seed: int) -> Array:
    """The numbers of one input, which depend on the seed, its name and the place alone.

    Bits are mixed as in splitmix64 (G. Steele, D. Lea, C. Flood, Fast Splittable Pseudorandom Number
    Generators, 2014).
    """
    count = int(np.prod(recipe.shape, dtype=np.int64))
    key = np.uint64(zlib.crc32(recipe.name.encode()) | (seed & 0xFFFFFFFF) << 32)
    with np.errstate(over="ignore"):
        x = (np.arange(1, count + 1, dtype=np.uint64) + key) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    unit = (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
    dtype = numpy_dtype(recipe.dtype)
    values = recipe.low + (recipe.high - recipe.low) * unit
    if dtype.kind in "biu":
        values = np.floor(values)
    return values.astype(dtype).reshape(recipe.shape)


def digest(array: Array) -> str:
    """The SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def statistics(array: Array) -> tuple[float, float, int]:
    """RMS and greatest magnitude of the finite elements, and how many are not finite."""
    values = array.astype(np.float64).reshape(-1)
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max(initial=0.0))
    rms = 0.0 if largest == 0 else largest * float(np.sqrt(np.mean(np.square(finite / largest))))
    return rms, largest, int(values.size - finite.size)


def _record(info: TensorInfo, array: Array, target: str) -> OutputRecord:
    flat = array.reshape(-1)
    places = np.flatnonzero(np.isfinite(flat.astype(np.float64)))
    chosen = places[np.linspace(0, len(places) - 1, min(SAMPLES, len(places))).astype(np.int64)]
    samples = tuple(Sample(int(i), float(flat[i])) for i in chosen)
    return OutputRecord(
        info.name, info.dtype, array.shape, {target: digest(array)}, *statistics(array), samples
    )


# --- inputs that a model takes


def _attempts(model: CompiledModel) -> Iterator[tuple[InputRecipe, ...]]:
    """Recipes to try: for each choice of extents, first varied integers, then zeros, which index anything."""
    for extents in _extents(model):
        shapes = _shapes(model, extents)
        for varied in (True, False) if shapes is not None else ():
            recipes = tuple(
                InputRecipe(info.name, info.dtype, shape, *_range(info.name, spec.dtype, varied))
                for info, spec, shape in zip(model.manifest.inputs, model.inputs, shapes or (), strict=True)
            )
            if _elements(recipes) <= MOST_ELEMENTS:
                yield recipes


def _extents(model: CompiledModel) -> Iterator[dict[str, int]]:
    """Numbers of the symbols that are extents: hinted minima, then all the same, within their ranges."""
    symbols = [symbol for symbol in model.manifest.symbols if symbol.axis is not None]
    hints = model.manifest.options.get("shapes", {})
    first = {
        s.name: hints[s.name][0] if _is_hint(hints.get(s.name)) else 1 if s.axis == 0 else 16 for s in symbols
    }
    for choice in (first, *({s.name: extent for s in symbols} for extent in (2, 1, 4, 8, 32, 64, 128, 224))):
        yield {
            s.name: max(s.minimum, choice[s.name] if s.maximum is None else min(choice[s.name], s.maximum))
            for s in symbols
        }


def _is_hint(spec: Any) -> bool:
    return isinstance(spec, list) and len(spec) == 3 and all(isinstance(extent, int) for extent in spec)


def _shapes(model: CompiledModel, extents: Mapping[str, int]) -> list[tuple[int, ...]] | None:
    """The inputs' shapes for these extents; None where one depends on what only the data say."""
    symbols = {s.name: Symbol(s.name, s.minimum, s.maximum) for s in model.manifest.symbols}
    try:
        return [
            tuple(
                dim if isinstance(dim, int) else evaluate(parse(dim, symbols), extents) for dim in spec.shape
            )
            for spec in model.inputs
        ]
    except (Error, KeyError):
        return None


def _range(name: str, dtype: np.dtype[Any], varied: bool) -> tuple[float, float]:
    """The range of an input: masks are ones, wide integers may be ids or flags, 8-bit ones are data."""
    if dtype.kind == "b" or "mask" in name.lower():
        return 1.0, 2.0
    if dtype.kind not in "iu":
        return -1.0, 1.0
    if not varied:
        return 0.0, 1.0
    if dtype.itemsize > 1:
        return 0.0, 2.0
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max) + 1.0

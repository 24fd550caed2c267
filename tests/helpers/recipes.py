"""Values for the inputs of models, from a few words on what a valid input looks like. Deterministic.

A recipe is a mapping with a `kind` and its numbers, as it stands in tests/models/real_models.json:

    normal    mean, std                     independent normal numbers
    uniform   low, high                     independent uniform numbers
    integers  low, high                     low <= n < high
    constant  value
    lengths   -                             a mask of ones, then zeros: row i has fewer ones the larger i
    tones     scale, rate, axis             a chord that swells and fades; `rate` samples a second
    page      low, high                     dark glyphs, at `low`, in lines on a page at `high`
    picture   low, high                     smooth blobs with grain in the last two axes
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"
Recipe: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Input:
    """An input of a model: its ONNX name, NumPy dtype and recipe."""

    name: str
    dtype: str
    recipe: Recipe


def make_inputs(
    inputs: Sequence[Input], shapes: Mapping[str, Sequence[int]], seed: int = 0
) -> dict[str, Array]:
    """Values by name. Each input has a generator of its own, seeded with (seed, its name)."""
    values = {}
    for spec in inputs:
        generator = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
        values[spec.name] = draw(spec.recipe, tuple(shapes[spec.name]), spec.dtype, generator)
    return values


def draw(recipe: Recipe, shape: tuple[int, ...], dtype: str, generator: np.random.Generator) -> Array:
    """An array of `shape` and `dtype` after `recipe`."""
    kind, numbers = recipe["kind"], {key: value for key, value in recipe.items() if key != "kind"}
    match kind:
        case "normal":
            values = generator.normal(numbers.get("mean", 0.0), numbers.get("std", 1.0), shape)
        case "uniform":
            values = generator.uniform(numbers["low"], numbers["high"], shape)
        case "integers":
            values = generator.integers(numbers["low"], numbers["high"], shape)
        case "constant":
            values = np.full(shape, numbers["value"])
        case "lengths":
            values = _lengths(shape)
        case "tones":
            values = _tones(shape, generator, **numbers)
        case "page":
            values = _page(shape, generator, **numbers)
        case "picture":
            values = _picture(shape, generator, **numbers)
        case _:
            raise ValueError(f"no recipe is called {kind!r}")
    return np.array(values, dtype, order="C")


def _lengths(shape: tuple[int, ...]) -> Array:
    rows, length = int(np.prod(shape[:-1], dtype=int)), shape[-1]
    kept = np.maximum(1, length - np.arange(rows) * max(1, length // 4) % max(1, length))
    return (np.arange(length) < kept[:, None]).reshape(shape)


def _tones(
    shape: tuple[int, ...], generator: np.random.Generator, scale: float, rate: float, axis: int
) -> Array:
    time = np.arange(shape[axis]) / rate
    pitches = 110.0 * 2.0 ** (generator.integers(0, 36, 5) / 12)
    chord = sum(
        np.sin(2 * np.pi * pitch * time + phase)
        for pitch, phase in zip(pitches, generator.uniform(0, 2 * np.pi, pitches.size), strict=True)
    )
    swell = 0.6 - 0.4 * np.cos(2 * np.pi * 1.5 * time)
    signal = chord / pitches.size * swell + generator.normal(0, 0.01, time.size)
    along = [1] * len(shape)
    along[axis] = -1
    return np.broadcast_to((scale * signal).reshape(along), shape)


def _page(shape: tuple[int, ...], generator: np.random.Generator, low: float, high: float) -> Array:
    count, channels, height, width = shape
    page = np.zeros((count, height, width))
    line, glyph, stroke = 24, 12, 3
    for top in range(line // 4, height - 5 * stroke, line):
        for left in range(glyph, width - 2 * glyph, glyph):
            ink = generator.integers(0, 2, (count, 5, 3)) * (generator.random((count, 1, 1)) < 0.85)
            page[:, top : top + 5 * stroke, left : left + 3 * stroke] = np.kron(
                ink, np.ones((1, stroke, stroke))
            )
    page = high + (low - high) * page[:, None].repeat(channels, axis=1)
    return page + generator.normal(0, 0.01 * (high - low), shape)


def _picture(shape: tuple[int, ...], generator: np.random.Generator, low: float, high: float) -> Array:
    *planes, height, width = shape
    rows, columns = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)
    image = np.zeros(shape)
    for _ in range(6):
        y, x = generator.uniform(0, 1, (2, *planes, 1, 1))
        spread = generator.uniform(0.1, 0.4)
        brightness = generator.uniform(-1, 1, (*planes, 1, 1))
        image += brightness * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * spread**2))
    image = 0.5 + 0.35 * image + generator.normal(0, 0.02, shape)
    return low + (high - low) * np.clip(image, 0, 1)

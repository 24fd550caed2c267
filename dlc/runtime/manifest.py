"""What `manifest.json` of a package says: the model, its interface, the code in the package, and digests."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from dlc.errors import PackageError, printable
from dlc.runtime.abi import ABI_VERSION
from dlc.runtime.archive import check_name
from dlc.runtime.codec import Json, decode, parse, to_text

#: Version of the package format; a reader accepts its own only.
FORMAT_VERSION = 1

#: Alignment of each constant within its member, and hence in memory.
CONSTANT_ALIGNMENT = 64

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class ModelInfo:
    """Where the package comes from. `sha256` is that of the model's bytes; `opsets`: version by domain."""

    name: str
    sha256: str
    opsets: Mapping[str, int]


@dataclass(frozen=True)
class Symbol:
    """A symbolic extent, at least `minimum` and at most `maximum` (None: unbounded). Its value is the
    extent of axis `axis` of `input`, or its element number `element` in row-major order; all three are None
    for one that is only known during a run."""

    name: str
    minimum: int = 0
    maximum: int | None = None
    input: str | None = None
    axis: int | None = None
    element: int | None = None


@dataclass(frozen=True)
class TensorInfo:
    """An input or output. `dtype` is a name such as "float32"; an extent is a number or an expression over
    symbols. `type` is that of a sequence or optional as text; `dtype` is that of the tensors in it."""

    name: str
    dtype: str
    shape: tuple[int | str, ...] = ()
    type: str = ""


@dataclass(frozen=True)
class TargetCode:
    """Code for one target: the members that hold its objects, and what a machine needs to run them.

    `name` is what `dlc.compile(target=)` takes. `features` are CPU features by LLVM's names; `abi` is the
    version of dlc.h, or of the launcher for a GPU. `properties` is for the backend (CUDA architecture,
    Triton version, ...).
    """

    name: str
    triple: str
    abi: int
    objects: tuple[str, ...]
    features: tuple[str, ...] = ()
    properties: Mapping[str, Json] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The first part of the triple: "x86_64", "aarch64", "nvptx64"."""
        return self.triple.split("-", 1)[0]


@dataclass(frozen=True)
class Constant:
    """`size` bytes from `offset` of the member `member`. Drivers receive constants in the manifest's
    order."""

    name: str
    member: str
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json.

    `dlc` is the version that made the package, `options` those of the compilation (Options.to_dict).
    `alias` maps inputs to the outputs that share their storage. `digests` holds the SHA-256 of every other
    member; write_package fills it in. `extra` is for other layers: numerics, self-test, reports.
    """

    dlc: str
    model: ModelInfo
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    targets: tuple[TargetCode, ...] = ()
    constants: tuple[Constant, ...] = ()
    symbols: tuple[Symbol, ...] = ()
    alias: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Json] = field(default_factory=dict)
    extra: Mapping[str, Json] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Canonical JSON."""
        return to_text(self)

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """The inverse of :meth:`to_json`; PackageError for another format or for what :meth:`check`
        forbids."""
        data = parse(text, "the package's manifest")
        version = data.get("format") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise PackageError(
                f"the package has format {printable(repr(version), 20)}, not {FORMAT_VERSION}",
                hint="compile the model again, or use the version of dlc that made the package",
            )
        manifest: Manifest = decode(cls, data, "manifest")
        manifest.check()
        return manifest

    def check(self) -> None:
        """PackageError unless names are unique, references resolve, and numbers are in range."""
        _require_unique("input", (tensor.name for tensor in self.inputs))
        _require_unique("output", (tensor.name for tensor in self.outputs))
        _require_unique("target", (target.name for target in self.targets))
        _require_unique("constant", (constant.name for constant in self.constants))
        _require_unique("symbol", (symbol.name for symbol in self.symbols))
        inputs = {tensor.name: tensor for tensor in self.inputs}
        outputs = {tensor.name for tensor in self.outputs}
        for tensor in (*self.inputs, *self.outputs):
            if any(isinstance(extent, int) and extent < 0 for extent in tensor.shape):
                raise _invalid(f"{printable(tensor.name)} has a negative extent")
        for symbol in self.symbols:
            _check_symbol(symbol, inputs)
        for source, output in self.alias.items():
            if source not in inputs or output not in outputs:
                raise _invalid(f"the alias of {printable(source)} names no input and output")
        for target in self.targets:
            for member in target.objects:
                check_name(member)
        for constant in self.constants:
            check_name(constant.member)
            if constant.offset < 0 or constant.size < 0 or constant.offset % CONSTANT_ALIGNMENT:
                raise _invalid(f"constant {printable(constant.name)} has a bad place")
            _check_digest(constant.sha256, f"constant {constant.name}")
        _check_digest(self.model.sha256, "the model")
        for member, digest in self.digests.items():
            _check_digest(digest, check_name(member))

    def target_for(self, triple: str, features: Collection[str], name: str | None = None) -> TargetCode:
        """The best code of the package for a machine: of those whose architecture, interface version and
        features fit, the one that uses most features; only `name` if given. PackageError, saying what is
        missing, if none."""
        reasons = []
        fitting = []
        for target in self.targets:
            if name is not None and target.name != name:
                continue
            missing = sorted(set(target.features) - set(features))
            if target.architecture != triple.split("-", 1)[0]:
                reasons.append(f"{target.name} is for {target.architecture}")
            elif target.abi != ABI_VERSION:
                reasons.append(f"{target.name} has interface version {target.abi}, not {ABI_VERSION}")
            elif missing:
                reasons.append(f"{target.name} needs {', '.join(missing[:8])}")
            else:
                fitting.append(target)
        if not fitting:
            names = ", ".join(target.name for target in self.targets)
            known = "; ".join(reasons) or f"it has {names or 'none at all'}"
            raise PackageError(
                f"the package has no code for this machine: {printable(known, 500)}",
                hint="compile the model for this machine, or for a target without these features",
            )
        return max(fitting, key=lambda target: len(target.features))


def _check_symbol(symbol: Symbol, inputs: Mapping[str, TensorInfo]) -> None:
    name = printable(symbol.name)
    is_extent = symbol.axis is not None
    if (is_extent and symbol.minimum < 0) or (symbol.maximum is not None and symbol.maximum < symbol.minimum):
        raise _invalid(f"symbol {name} has an empty range")
    places = [place for place in (symbol.axis, symbol.element) if place is not None]
    if len(places) != (symbol.input is not None):
        raise _invalid(f"symbol {name} has an input without an axis or element, or the other way round")
    if symbol.input is None:
        return
    source = inputs.get(symbol.input)
    if source is None or (symbol.axis is not None and not 0 <= symbol.axis < len(source.shape)):
        raise _invalid(f"symbol {name} comes from no axis of an input")
    if symbol.element is not None and not 0 <= symbol.element < _fixed_size(source):
        raise _invalid(f"symbol {name} comes from no element of an input")


def _fixed_size(tensor: TensorInfo) -> int:
    """The number of elements of a tensor; 0 where its extents are not all numbers."""
    return math.prod(extent if isinstance(extent, int) else 0 for extent in tensor.shape)


def _require_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _invalid(f"two {what}s are called {printable(name)}")
        seen.add(name)


def _check_digest(digest: str, what: str) -> None:
    if not _SHA256.match(digest):
        raise _invalid(f"the digest of {printable(what)} is not a SHA-256")


def _invalid(reason: str) -> PackageError:
    return PackageError(f"the package's manifest is invalid: {reason}", hint="compile the model again")

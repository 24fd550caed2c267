"""CPU targets: the machine at hand, or one of the named x86-64 levels.

A target fixes everything that code generation may depend on: the LLVM processor name and features, the
shape of the vector register file, the dot-product instructions and the cache sizes. The named levels are
pure data, so that code for them is the same wherever it is generated.
"""
from __future__ import annotations

import functools
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dlc.errors import InputError, UnsupportedError

_AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"})
_V3 = frozenset(
    {"64bit", "avx", "avx2", "bmi", "bmi2", "cmov", "crc32", "cx16", "cx8", "f16c", "fma", "fxsr", "lzcnt"}
    | {"mmx", "movbe", "popcnt", "sahf", "sse", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3", "xsave"}
)
_SYSFS_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_KIB = 1024


@dataclass(frozen=True)
class CpuTarget:
    """A processor as code generation sees it.

    `name` is what :func:`resolve` understands ("native" or a level). `triple`, `cpu` and `feature_string`
    go to LLVM as they are; `features` holds the enabled features by LLVM's names. `vector_bits` is the
    width of the widest vector register and `vector_registers` their number. `l1`, `l2`, `l3` are data cache
    sizes in bytes (l1 and l2 per core, l3 shared). `fma`: fused multiply-add; `f16c`: conversion between
    f16 and f32; `vnni`: u8 x s8 dot products of four; `bf16`: bf16 dot products of two.
    """

    name: str
    triple: str
    cpu: str
    feature_string: str
    features: frozenset[str]
    vector_bits: int
    vector_registers: int
    l1: int
    l2: int
    l3: int
    fma: bool
    f16c: bool
    vnni: bool
    bf16: bool

    @property
    def avx512(self) -> bool:
        """Whether 512-bit vectors, mask registers and their byte and word forms are available."""
        return self.features >= _AVX512

    @property
    def is_x86(self) -> bool:
        """Whether the instruction set is x86-64."""
        return self.triple.startswith("x86_64")

    def has(self, *features: str) -> bool:
        """Whether every one of the LLVM `features` is enabled."""
        return self.features.issuperset(features)

    def runs_on(self, machine: CpuTarget) -> bool:
        """Whether code for this target can run on `machine`: same architecture, no feature that it lacks."""
        same = self.triple.split("-")[0] == machine.triple.split("-")[0]
        return same and self.features <= machine.features


def resolve(name: str) -> CpuTarget:
    """The target called `name`: "native", "x86-64-v3" or "x86-64-v4".

    Raises InputError for an unknown name, UnsupportedError where "native" is not a machine dlc can serve.
    """
    if name == "native":
        return native()
    if name in _LEVELS:
        return _LEVELS[name]
    known = ", ".join(["native", *sorted(_LEVELS)])
    raise InputError(f"unknown CPU target {name!r}", hint=f"use one of {known}", code="input/option")


@functools.cache
def native() -> CpuTarget:
    """The machine this process runs on, with the features that both processor and operating system enable.

    LLVM's detection reads XCR0, so a feature whose registers the operating system does not save is reported
    as absent; such features are passed to LLVM as disabled even when the processor's model implies them.
    Raises UnsupportedError for architectures other than x86-64 with AVX2.
    """
    import llvmlite.binding as llvm

    triple = llvm.get_process_triple()
    detected: dict[str, bool] = dict(llvm.get_host_cpu_features())
    enabled = frozenset(name for name, on in detected.items() if on)
    if not triple.startswith("x86_64") or not enabled >= {"avx2", "fma", "f16c"}:
        machine = _machine(triple)
        raise UnsupportedError(
            f"this machine ({machine}) is not supported",
            hint="dlc needs an x86-64 processor with AVX2, FMA and F16C",
            code="unsupported/target",
        )
    text = ",".join(("+" if on else "-") + name for name, on in sorted(detected.items()))
    return _describe("native", triple, llvm.get_host_cpu_name(), text, enabled, _caches())


def _machine(triple: str) -> str:
    """The architecture and system of this process in words, for messages."""
    return f"{platform.machine() or triple.split('-')[0]}, {platform.system() or 'unknown system'}"


def _describe(
    name: str, triple: str, cpu: str, text: str, features: frozenset[str], caches: Mapping[int, int]
) -> CpuTarget:
    wide = features >= _AVX512
    return CpuTarget(
        name=name,
        triple=triple,
        cpu=cpu,
        feature_string=text,
        features=features,
        vector_bits=512 if wide else 256,
        vector_registers=32 if wide else 16,
        l1=caches[1],
        l2=caches[2],
        l3=caches[3],
        fma="fma" in features,
        f16c="f16c" in features,
        vnni=wide and "avx512vnni" in features,
        bf16=wide and "avx512bf16" in features,
    )


_DEFAULT_CACHES: Mapping[int, int] = {1: 32 * _KIB, 2: 512 * _KIB, 3: 16 * _KIB * _KIB}


def _caches(folder: Path = _SYSFS_CACHES) -> Mapping[int, int]:
    """Data cache sizes in bytes by level from sysfs; the defaults where it says nothing."""
    sizes = dict(_DEFAULT_CACHES)
    for index in sorted(folder.glob("index*")):
        try:
            level, kind, size = (Path(index, key).read_text().strip() for key in ("level", "type", "size"))
            if kind in ("Data", "Unified") and int(level) in sizes:
                sizes[int(level)] = _parse_size(size)
        except (OSError, ValueError):
            continue
    return sizes


def _parse_size(text: str) -> int:
    """Bytes from sysfs's "32K" or "16M"."""
    factors = {"K": _KIB, "M": _KIB**2, "G": _KIB**3}
    factor = factors.get(text[-1:], 1)
    size = int(text.rstrip("KMG")) * factor
    if size <= 0:
        raise ValueError(f"not a cache size: {text!r}")
    return size


def _level(name: str, features: frozenset[str], caches: Mapping[int, int]) -> CpuTarget:
    text = ",".join("+" + feature for feature in sorted(features))
    triple = "x86_64-unknown-linux-gnu" if os.name == "posix" else "x86_64-pc-windows-msvc"
    return _describe(name, triple, name, text, features, caches)


_LEVELS: Mapping[str, CpuTarget] = {
    "x86-64-v3": _level("x86-64-v3", _V3, _DEFAULT_CACHES),
    "x86-64-v4": _level("x86-64-v4", _V3 | _AVX512, {**_DEFAULT_CACHES, 2: _KIB * _KIB}),
}

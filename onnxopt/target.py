"""Target processors: their INT8 capabilities, and the defaults that follow."""

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from onnxopt.errors import UsageError, nearest


@dataclass(frozen=True)
class Target:
    """One family of processors.

    Attributes:
        name: the name as given to `--target`.
        activation_type: the type of quantized activations, `uint8` or `int8`.
        weight_type: the type of quantized weights.
        reduce_range: 7-bit weights. Without VNNI, AVX2 and AVX-512 add pairs of 8x8-bit products in 16 bits, which
            saturate; one bit less in the weights keeps the sum inside.
        register_floats: float32 numbers in a register; channel counts and ranks that are multiples of it waste none.
    """

    name: str
    activation_type: str
    weight_type: str
    reduce_range: bool
    register_floats: int


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        t.name: t
        for t in (
            Target("x86-avx2", "uint8", "int8", True, 8),
            Target("x86-avx512", "uint8", "int8", True, 16),
            Target("x86-vnni", "uint8", "int8", False, 16),
            Target("x86-amx", "uint8", "int8", False, 16),
            Target("arm64-neon", "int8", "int8", False, 8),
            Target("arm64-dotprod", "int8", "int8", False, 8),
            Target("arm64-i8mm", "int8", "int8", False, 8),
        )
    }
)


FAMILIES: Mapping[str, str] = MappingProxyType({"x86": "x86-avx2", "arm64": "arm64-neon"})
"""The least that every processor of a family has."""


def target_of(name: str) -> Target:
    """Return the target called `name`; `auto` is this machine, and `x86-avx2,arm64` all of several.

    A result for several is safe on all of them: unsigned activations if one is x86, where signed ones are slow, and
    weights that saturate on none; multiples of the widest register are multiples of every other.

    Args:
        name: such as `x86-vnni` or `arm64`.

    Raises:
        UsageError: ONX102 no target has this name.
    """
    several = [_one(part.strip()) for part in name.split(",")]
    if len(several) == 1:
        return several[0]
    return Target(
        ",".join(dict.fromkeys(t.name for t in several)),
        "uint8" if any(t.activation_type == "uint8" for t in several) else "int8",
        "int8",
        any(t.reduce_range for t in several),
        max(t.register_floats for t in several),
    )


def _one(name: str) -> Target:
    if name == "auto":
        return detect()
    name = FAMILIES.get(name, name)
    if name not in TARGETS:
        raise UsageError("ONX102", "unknown target", where=name, hint=nearest(name, [*TARGETS, *FAMILIES, "auto"]))
    return TARGETS[name]


def detect() -> Target:
    """Return the target this process runs on."""
    return target_with(platform.machine().lower(), _features())


def features_of_cpuinfo(text: str) -> frozenset[str]:
    """Return the feature names of the first processor in the text of /proc/cpuinfo."""
    flags = next((line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), "")
    return frozenset(flags.partition(":")[2].split())


def _features() -> frozenset[str]:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        return features_of_cpuinfo(cpuinfo.read_text(errors="replace"))
    try:
        listing = subprocess.run(["sysctl", "-a"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    return features_of_sysctl(listing)


def features_of_sysctl(listing: str) -> frozenset[str]:
    """Return Linux-style feature names from the output of `sysctl -a` on macOS."""
    names = {"hw.optional.arm.FEAT_DotProd": "asimddp", "hw.optional.arm.FEAT_I8MM": "i8mm"}
    found = set()
    for line in listing.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in names and value == "1":
            found.add(names[key])
        if key.startswith("machdep.cpu.") and key.endswith("features"):
            found.update(value.lower().replace(".", "").split())
    return frozenset(found)


def target_with(machine: str, features: frozenset[str]) -> Target:
    """Return the target of a processor, from its architecture in lower case and its features as Linux names them."""
    if machine in ("aarch64", "arm64"):
        name = "arm64-i8mm" if "i8mm" in features else "arm64-dotprod" if "asimddp" in features else "arm64-neon"
    elif "amx_int8" in features:
        name = "x86-amx"
    elif features & {"avx512_vnni", "avx_vnni", "avx512vnni"}:
        name = "x86-vnni"
    else:
        name = "x86-avx512" if features & {"avx512bw"} else "x86-avx2"
    return TARGETS[name]

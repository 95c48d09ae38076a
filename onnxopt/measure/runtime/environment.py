"""The machine and the software of a measurement, for its record."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from onnxopt.child import telemetry
from onnxopt.measure.runtime.emulation import emulator
from onnxopt.measure.runtime.session import Runtime

PACKAGES = ("onnxopt", "onnx", "onnx-ir", "onnxruntime", "numpy", "scipy")
FLAGS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""Instruction sets that affect the speed of a model, as spelled in /proc/cpuinfo."""


def environment(runtime: Runtime | None = None) -> dict[str, Any]:
    """Return the facts on which a figure depends: processor, system, versions and configuration of ONNX Runtime."""
    cpuinfo = _cpuinfo()
    facts: dict[str, Any] = {
        "cpu": cpuinfo.get("model name") or cpuinfo.get("Model") or platform.processor() or "unknown",
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": _usable_cores(),
        "isa": instruction_sets(cpuinfo),
        "emulated": emulator() is not None,
        "os": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "telemetry": telemetry(),
    }
    if runtime is not None:
        facts["provider"] = runtime.provider
        facts["threads"] = runtime.threads
        facts["optimization"] = runtime.optimization
        facts["runtime_options"] = dict(runtime.options)
    return facts


def instruction_sets(cpuinfo: Mapping[str, str] | None = None) -> list[str]:
    """Return which of `FLAGS` this processor has; none where the system does not report them."""
    fields = _cpuinfo() if cpuinfo is None else cpuinfo
    found = (fields.get("flags") or fields.get("Features", "")).split()
    return [flag for flag in FLAGS if flag in found]


def physical_cores(processors: Path = Path("/sys/devices/system/cpu")) -> int:
    """Return the cores that this process may use; two hardware threads of one core count once."""
    try:
        usable = sorted(os.sched_getaffinity(0))
        siblings = {(processors / f"cpu{one}/topology/thread_siblings_list").read_text().strip() for one in usable}
    except (AttributeError, OSError):  # only where the system has affinities, and reports its topology
        return _usable_cores() or 1
    return max(len(siblings), 1)


def _cpuinfo() -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo; empty without that file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _usable_cores() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only where the system has affinities
        return os.cpu_count()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # onnxruntime-openvino and -gpu install the module from another package
        return _module_version(package)


def _module_version(package: str) -> str | None:
    if package != "onnxruntime":
        return None
    import onnxruntime

    return str(onnxruntime.__version__)

"""Check of the installation: packages, runtime, processor, writable folders."""

import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from onnxopt.document.blocks import Document, Facts, Text
from onnxopt.errors import UsageError
from onnxopt.measure.runtime.emulation import emulator
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.providers import PROVIDERS, provider_name
from onnxopt.target import detect

LIBRARIES = ("pydantic", "typer", "rich", "jinja2", "plotly")
"""Required libraries besides those in `environment`."""

EXTRAS = {
    "train": ("torch",),
    "export": ("torch", "onnxscript"),
    "text": ("tokenizers",),
    "images": ("PIL",),
    "tables": ("pyarrow",),
    "digits": ("sklearn",),
    "dask": ("distributed",),
}


def examine() -> tuple[Document, bool]:
    """Return a report on this installation, and whether it is complete."""
    about = environment()
    found = {**about["versions"], **{name: _version(name) for name in LIBRARIES}}
    problems = [f"{name} is not installed" for name, v in found.items() if v is None]
    providers = [alias for alias in PROVIDERS if _has_provider(alias)]
    if "cpu" not in providers:
        problems.append("this ONNX Runtime has no CPU provider")
    emulated = emulator()
    writable = {str(folder): _writable(folder) for folder in (Path.cwd(), Path(tempfile.gettempdir()))}
    problems += [f"{folder} cannot be written" for folder, ok in writable.items() if not ok]
    extras = {name: all(find_spec(module) for module in modules) for name, modules in EXTRAS.items()}
    target, governor = detect(), frequency_governor()
    facts = Facts(
        (
            ("python", about["python"]),
            *((name, v or "missing") for name, v in found.items()),
            ("system", about["os"]),
            ("processor", about["cpu"]),
            ("cores", f"{about['usable_cores']} usable of {about['cores']}"),
            ("governor", governor or "unknown"),
            ("instructions", " ".join(about["isa"]) or "unknown"),
            ("target", f"{target.name} (INT8: {target.activation_type} activations, {target.weight_type} weights)"),
            ("emulation", f"{emulated}: latency has no meaning" if emulated else "none"),
            ("providers", ", ".join(providers)),
            ("telemetry", f"{about['telemetry']} (ONNX Runtime's own)"),
            ("extras present", ", ".join(n for n, ok in extras.items() if ok) or "none"),
            ("extras absent", _absent(extras)),
            *((f"writable {folder}", "yes" if ok else "no") for folder, ok in writable.items()),
        )
    )
    notes = (
        []
        if governor in (None, "performance")
        else [f"The governor {governor} changes the processor's clock: latency varies more."]
    )
    verdict = Text(
        (*(f"Problem: {p}." for p in problems), *notes) if problems else ("The installation is complete.", *notes)
    )
    data = {
        "healthy": not problems,
        "problems": problems,
        **about,
        "versions": found,
        "target": target.name,
        "emulation": emulated,
        "providers": providers,
        "governor": governor,
        "extras": extras,
        "writable": writable,
    }
    return Document((facts, verdict), data), not problems


def frequency_governor(folder: Path = Path("/sys/devices/system/cpu/cpu0/cpufreq")) -> str | None:
    """Return the frequency governor of the processor, such as `performance`; None where unknown."""
    try:
        return (folder / "scaling_governor").read_text().strip() or None
    except OSError:
        return None


def _absent(extras: dict[str, bool]) -> str:
    names = [name for name, ok in extras.items() if not ok]
    return f'{", ".join(names)}: pip install "onnxopt[{",".join(names)}]"' if names else "none"


def _has_provider(alias: str) -> bool:
    try:
        provider_name(alias)
    except UsageError:
        return False
    return True


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""Whether this installation has what it needs."""

import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from onnxopt.errors import UsageError
from onnxopt.measure.emulation import emulator
from onnxopt.measure.environment import environment
from onnxopt.measure.providers import PROVIDERS, provider_name
from onnxopt.quantization.isa import detect
from onnxopt.report.document import Document, Facts, Text

LIBRARIES = ("pydantic", "typer", "rich", "jinja2")
"""What is needed besides the libraries that `environment` already names."""

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
    """Return a report on this installation, and whether everything needed is there."""
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
    target = detect()
    facts = Facts(
        (
            ("python", about["python"]),
            *((name, v or "missing") for name, v in found.items()),
            ("system", about["os"]),
            ("processor", about["cpu"]),
            ("cores", f"{about['usable_cores']} usable of {about['cores']}"),
            ("instructions", " ".join(about["isa"]) or "unknown"),
            ("target", f"{target.name} (INT8: {target.activation_type} activations, {target.weight_type} weights)"),
            ("emulation", f"{emulated}: latency means nothing here" if emulated else "none"),
            ("providers", ", ".join(providers)),
            ("extras present", ", ".join(n for n, ok in extras.items() if ok) or "none"),
            ("extras absent", ", ".join(n for n, ok in extras.items() if not ok) or "none"),
            *((f"writable {folder}", "yes" if ok else "no") for folder, ok in writable.items()),
        )
    )
    verdict = Text(tuple(f"Problem: {p}." for p in problems) or ("Everything needed is there.",))
    data = {
        "healthy": not problems,
        "problems": problems,
        **about,
        "versions": found,
        "target": target.name,
        "emulation": emulated,
        "providers": providers,
        "extras": extras,
        "writable": writable,
    }
    return Document((facts, verdict), data), not problems


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

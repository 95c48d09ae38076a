"""Provenance of a saved model: version, passes, source."""

from importlib.metadata import version
from pathlib import Path

from onnxopt import model_file


def provenance(passes: str, source: Path | None) -> dict[str, str]:
    """Return metadata for a model made by `passes`; it depends neither on time nor on place, so bytes repeat."""
    origin = {} if source is None else {"source_sha256": model_file.sha256_of(source)}
    return {"version": version("onnxopt"), "passes": passes, **origin}

"""Checksums, in the format that `sha256sum -c` reads."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from onnxopt.model_file.save import atomic_write_text, external_files


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, files: Sequence[Path]) -> Path:
    """Write `MANIFEST.sha256` into `folder` for `files` and, of each `.onnx` among them, its external data."""
    covered = {f: None for path in files for f in (path, *(external_files(path) if path.suffix == ".onnx" else ()))}
    lines = [f"{sha256_of(f)}  {f.relative_to(folder).as_posix()}\n" for f in covered]
    target = folder / "MANIFEST.sha256"
    atomic_write_text(target, "".join(lines), overwrite=True)
    return target

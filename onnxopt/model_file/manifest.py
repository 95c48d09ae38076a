"""Checksums, in the format that `sha256sum -c` reads."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import onnx

from onnxopt.errors import ModelError
from onnxopt.model_file.save import atomic_write_text, external_files
from onnxopt.model_file.streamed import DATA_DIGEST


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_changed_data(path: Path) -> None:
    """Compare the external data of a model that was written here with the checksum in its metadata.

    Raises:
        ModelError: ONX303 they differ.
    """
    proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    stated = next((entry.value for entry in proto.metadata_props if entry.key == DATA_DIGEST), "")
    files = external_files(path)
    if stated and len(files) == 1 and sha256_of(files[0]) != stated:
        why, hint = "it differs from its checksum", f"Put the complete file beside {path.name}."
        raise ModelError("ONX303", "external data is damaged", where=str(files[0]), why=why, hint=hint)


def write_manifest(folder: Path, files: Sequence[Path]) -> Path:
    """Write `MANIFEST.sha256` into `folder` for `files` and, of each `.onnx` among them, its external data."""
    covered = {f: None for path in files for f in (path, *(external_files(path) if path.suffix == ".onnx" else ()))}
    lines = [f"{sha256_of(f)}  {f.relative_to(folder).as_posix()}\n" for f in covered]
    target = folder / "MANIFEST.sha256"
    atomic_write_text(target, "".join(lines), overwrite=True)
    return target

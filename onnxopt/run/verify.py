"""Verification of a run folder: checksums, and the outputs of its model on this machine (`onnxopt verify`)."""

import re
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from onnxopt import model_file
from onnxopt.document.blocks import Column, Displayed, Document, Table, Text
from onnxopt.errors import FileError, ModelError, NativeError, first_line
from onnxopt.files import read_text
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.record.golden import differences, read_golden, tolerance_of
from onnxopt.run.finished import AnyRun, Run
from onnxopt.run.folder import BEST, GOLDEN, MANIFEST, RECORD
from onnxopt.run.runs import read_record

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True)
class VerifiedPart:
    """One file or output, and its finding."""

    name: str
    passed: bool
    result: str


@dataclass(frozen=True)
class Verification(Displayed):
    """The state of a run folder.

    Attributes:
        files: the files of the manifest, each against its checksum.
        outputs: the outputs of best.onnx on this machine, each against the recorded ones; empty without a comparison.
        passed: whether all files and outputs agree.
        document: the same as a table, with the reason why outputs were not compared.
    """

    files: tuple[VerifiedPart, ...]
    outputs: tuple[VerifiedPart, ...]
    passed: bool
    document: Document = field(repr=False)


def verify(run: AnyRun, *, tolerance: float | None = None) -> Verification:
    """Check the checksums of a run folder, and the outputs of its model on this machine.

    Args:
        run: a run folder, or a run as an object.
        tolerance: largest difference of an output relative to its largest magnitude; None for that of the model's kind.

    Raises:
        FileError: ONX501 there is no manifest, ONX505 it, the record or the golden outputs cannot be read.
    """
    folder = run.folder if isinstance(run, Run) else Path(run)
    files = check_files(folder)
    lines: list[str] = []
    outputs: list[VerifiedPart] = []
    if not all(checked.passed for checked in files):
        lines.append("The outputs were not compared, because files of the run were changed.")
    elif not (folder / GOLDEN).is_file() or not (folder / BEST).is_file():
        lines.append(f"The outputs were not compared: the run ended before it wrote {GOLDEN}.")
    else:
        outputs, line = _check_outputs(folder, tolerance)
        lines.append(line)
    wrong = [checked for checked in (*files, *outputs) if not checked.passed]
    lines.append(f"{len(wrong)} of {len(files) + len(outputs)} checks failed." if wrong else "All checks passed.")
    tables = (
        Table((Column("file"), Column("result")), tuple((c.name, c.result) for c in files)),
        *([Table((Column("output"), Column("result")), tuple((c.name, c.result) for c in outputs))] if outputs else ()),
    )
    data = {
        "passed": not wrong,
        "files": [asdict(c) for c in files],
        "outputs": [asdict(c) for c in outputs],
        "notes": lines[:-1],
    }
    document = Document((*tables, Text(tuple(lines))), data)
    return Verification(tuple(files), tuple(outputs), not wrong, document)


def check_files(folder: Path) -> list[VerifiedPart]:
    """Compare every file of the manifest with its checksum, and best.onnx with run.json.

    Raises:
        FileError: ONX501 there is no manifest, ONX505 it or the record cannot be read.
    """
    listed = _manifest(folder)
    checked = [_check_file(folder, name, digest) for name, digest in listed.items()]
    for name in (BEST, RECORD, GOLDEN):
        if name not in listed and (folder / name).exists():
            checked.append(VerifiedPart(name, False, f"not in {MANIFEST}"))
    if all(c.passed for c in checked) and RECORD in listed:
        for file in read_record(folder).best:
            if listed.get(file.name) != file.sha256:
                checked.append(VerifiedPart(file.name, False, f"{RECORD} was written for another file of this name"))
    return checked


def _manifest(folder: Path) -> dict[str, str]:
    path = folder / MANIFEST
    if not path.is_file():
        hint, why = "Give the folder that `onnxopt optimize --out` wrote.", ""
        if (folder / RECORD).is_file():
            why, hint = "the search has not ended", f"Continue with: onnxopt resume {shlex.quote(str(folder))}"
        raise FileError("ONX501", "there is no manifest", where=str(path), why=why, hint=hint)
    try:
        matches = [(line, _LINE.fullmatch(line)) for line in read_text(path).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise FileError("ONX505", "the manifest cannot be read", where=str(path), why=first_line(error)) from error
    broken = next((line for line, match in matches if match is None), None)
    if broken is not None or not matches:
        why = "it is empty" if broken is None else f"{broken[:80]!r} is not a checksum with a name"
        raise FileError("ONX505", "the manifest cannot be read", where=str(path), why=why)
    return {match[2]: match[1] for _, match in matches if match is not None}


def _check_file(folder: Path, name: str, digest: str) -> VerifiedPart:
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        return VerifiedPart(name, False, "lies outside the folder")
    file = folder / place
    if file.resolve() != folder.resolve() / place:
        return VerifiedPart(name, False, "is a link; links are not followed")
    if not file.is_file():
        return VerifiedPart(name, False, "missing")
    try:
        found = model_file.sha256_of(file)
    except OSError as error:
        raise FileError("ONX505", "the file cannot be read", where=str(file), why=error.strerror or "") from error
    if found != digest:
        return VerifiedPart(name, False, f"changed: SHA-256 {found[:12]}.. instead of {digest[:12]}..")
    return VerifiedPart(name, True, "as written")


def _check_outputs(folder: Path, tolerance: float | None) -> tuple[list[VerifiedPart], str]:
    golden = read_golden(folder / GOLDEN)
    if not golden.runs:
        return [], f"The outputs were not compared: {golden.note}."
    model = model_file.load(folder / BEST)
    limit = tolerance_of(model) if tolerance is None else tolerance
    try:
        found = differences(Session(folder / BEST, Runtime(optimization=golden.optimization)), golden)
    except (ModelError, NativeError) as error:
        return [VerifiedPart(BEST, False, str(error))], "The outputs were not compared: the model does not run here."
    checked = [
        VerifiedPart(
            name, worst <= limit, f"differs by {worst:.2g} of its range" + ("" if worst <= limit else ", too much")
        )
        for name, worst in found.items()
    ]
    about = f"{len(golden.runs)} samples: largest difference relative to the largest magnitude of an output"
    return checked, f"Outputs on {about}; accepted: {limit:g} for floats, 0 for other types."

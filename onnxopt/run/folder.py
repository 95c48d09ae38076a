"""The files of a run folder; nothing else in it is ever touched."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import onnx_ir as ir
from filelock import BaseFileLock, FileLock, Timeout

from onnxopt import model_file
from onnxopt.catalog import format_passes
from onnxopt.errors import FileError, ModelError, first_line
from onnxopt.files import read_bytes
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.runtime.written import loads
from onnxopt.model_file.room import require_room
from onnxopt.model_file.save import external_files
from onnxopt.model_file.writable import refuse_inputs, refuse_unwritable
from onnxopt.options.runtime import OptimizationLevel
from onnxopt.pipeline import Pass
from onnxopt.record.golden import golden_bytes, record_golden
from onnxopt.record.provenance import provenance
from onnxopt.record.run import RunRecord
from onnxopt.report.page import to_page
from onnxopt.report.paper import to_paper
from onnxopt.samples import Samples

BEST, RECORD, PAGE, MANIFEST = "best.onnx", "run.json", "report.html", "MANIFEST.sha256"
PAPER, GOLDEN = "report.md", "golden.npz"
SMALLEST, FASTEST, JOURNAL = "smallest.onnx", "fastest.onnx", "journal.jsonl"
_PART = 1 << 20
"""Bytes of a file that are copied at a time."""
LOCK = ".lock"
"""Held while a search runs; the file of a process that died locks nothing."""
OURS = (
    *(name for model in (BEST, SMALLEST, FASTEST) for name in (model, f"{model}.data")),
    *(RECORD, PAGE, PAPER, GOLDEN, MANIFEST, JOURNAL),
)


class RunFolder:
    """A folder that is refused early or written in whole files.

    Args:
        path: may not exist yet.
        overwrite: whether it may hold something.
        resume: whether it holds a search that goes on.

    Attributes:
        began: whether anything was written.
    """

    def __init__(self, path: Path, overwrite: bool, resume: bool = False) -> None:
        self.path, self.overwrite, self.resume, self.began = path, overwrite, resume, False
        self._lock: BaseFileLock | None = None

    @property
    def journal(self) -> Path:
        """The file of the measurements of the search."""
        return self.path / JOURNAL

    @property
    def command(self) -> str | None:
        """The command line of the search that goes on; None where there is none."""
        with suppress(OSError, ValueError):
            return RunRecord.model_validate_json(read_bytes(self.path / RECORD)).command
        return None

    def refuse(self, model: Path | None, read: Iterable[object] = ()) -> None:
        """Refuse a folder that cannot be used, before any work is done; leaves no trace.

        Args:
            model: the file of the original.
            read: whatever else is read, of which paths of files count.

        Raises:
            FileError: ONX502 it is not empty, ONX503 it cannot be written, ONX504 a file that is read is one of ours in
                it, ONX506 another search is running in it.
        """
        if self.path.exists() and not self.path.is_dir():
            raise FileError(
                "ONX503", "the output is not a folder", where=str(self.path), hint="Name a folder with --out."
            )
        refuse_unwritable(self.path)
        if not self.path.is_dir() or all(file.name == LOCK for file in self.path.iterdir()):
            return
        if not self.overwrite and not self.resume:
            raise FileError(
                "ONX502",
                "the output folder is not empty",
                where=str(self.path),
                hint=f"Choose another with --out, or pass --resume to go on with the search in it, or --overwrite, "
                f"which replaces only {', '.join(OURS)}.",
            )
        refuse_inputs([self.path / name for name in OURS], model, read)
        self._refuse_foreign()
        self._take()

    def _refuse_foreign(self) -> None:
        """Refuse to replace files that only have the names of ours: no earlier run lies in the folder."""
        found = [name for name in OURS if (self.path / name).exists()]
        if found and not any(name in found for name in (RECORD, JOURNAL, MANIFEST)):
            raise FileError(
                "ONX502",
                "the output folder holds files that belong to no run",
                where=str(self.path),
                why=f"{', '.join(found)} would be replaced",
                hint="Choose another with --out, or move them away.",
            )

    def _take(self) -> None:
        """Lock the folder against other searches until `release`; without effect on a file system without locks."""
        if self._lock is not None:
            return
        lock = FileLock(self.path / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise FileError(
                "ONX506",
                "another search is running in this folder",
                where=str(self.path),
                hint="Wait until it has ended, or choose another folder with --out.",
            ) from error
        except PermissionError as error:
            raise FileError(
                "ONX503",
                "the run folder cannot be locked",
                where=str(lock.lock_file),
                why=error.strerror or first_line(error),
                hint="Another user may search in this folder; choose another folder with --out.",
            ) from error
        except (OSError, NotImplementedError):
            # The file system has no locks, or is full or read-only, which the first write names.
            return
        self._lock = lock

    def release(self) -> None:
        """Leave the folder to others; its end does the same for a process that dies."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            with suppress(OSError):
                (self.path / LOCK).unlink(missing_ok=True)

    def begin(self, size_bytes: int = 0) -> None:
        """Make the folder and remove the files of an earlier run, so that all files belong together.

        Args:
            size_bytes: the size of the first file, for which there must be room before anything is removed.

        Raises:
            FileError: ONX503 it cannot be made, ONX506 another search is running in it.
        """
        fresh = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                require_room(self.path, size_bytes)
            except FileError:
                if fresh:
                    self.path.rmdir()
                raise
            self._take()
            for name in (RECORD, PAGE, PAPER, GOLDEN, MANIFEST):
                (self.path / name).unlink(missing_ok=True)
            if not self.resume:
                self.drop(SMALLEST)
                self.drop(FASTEST)
        except OSError as error:
            raise FileError(
                "ONX503", "cannot write the output", where=str(self.path), why=error.strerror or ""
            ) from error
        self.began = True

    def save_best(self, model: ir.Model, passes: Sequence[Pass], original: Path | None) -> tuple[Path, ...]:
        """Write best.onnx and return its files; without passes it is the baseline, untouched where that is one file.

        A file that only its normal form makes loadable, such as one with an output of no type, is written in that form.
        """
        best = self.path / BEST
        if not passes and original is not None and not external_files(original) and _is_loaded(original):
            with original.open("rb") as source:
                model_file.atomic_write_bytes(best, iter(partial(source.read, _PART), b""), overwrite=True)
            (self.path / f"{BEST}.data").unlink(missing_ok=True)
            return (best,)
        return self.save(BEST, model, passes, original)

    def save(self, name: str, model: ir.Model, passes: Sequence[Pass], original: Path | None) -> tuple[Path, ...]:
        """Write a model with its passes and the checksum of its source in the metadata, and return its files."""
        about = provenance(format_passes(tuple(passes)), original) if passes else None
        files = model_file.save(model, self.path / name, overwrite=True, provenance=about, proof=loads)
        if self.path / f"{name}.data" not in files:
            (self.path / f"{name}.data").unlink(missing_ok=True)
        return files

    def drop(self, name: str) -> None:
        """Remove a model, if it is there."""
        for file in (name, f"{name}.data"):
            (self.path / file).unlink(missing_ok=True)

    def write_golden(self, samples: Samples, optimization: OptimizationLevel) -> None:
        """Write golden.npz: a few of `samples` with the outputs of best.onnx."""
        golden = record_golden(self.path / BEST, samples, optimization)
        model_file.atomic_write_bytes(self.path / GOLDEN, golden_bytes(golden), overwrite=True)

    def write_record(self, record: RunRecord) -> None:
        """Write run.json."""
        model_file.atomic_write_text(self.path / RECORD, record.to_json(), overwrite=True)

    def finish(self, record: RunRecord) -> None:
        """Write run.json, report.html, report.md and the manifest over all files."""
        self.write_record(record)
        model_file.atomic_write_text(self.path / PAGE, to_page(record), overwrite=True)
        model_file.atomic_write_text(self.path / PAPER, to_paper(record), overwrite=True)
        # On a full disk the run ends before there is any model.
        written = (BEST, RECORD, PAGE, PAPER) if record.best else (RECORD, PAGE, PAPER)
        # A run that was interrupted or failed has no golden outputs.
        others = [name for name in (GOLDEN, SMALLEST, FASTEST) if (self.path / name).exists()]
        model_file.write_manifest(self.path, [self.path / name for name in (*written, *others)])


def _is_loaded(path: Path) -> bool:
    """Return whether ONNX Runtime loads a file."""
    try:
        Session(path, Runtime(optimization="none"))
    except ModelError:
        return False
    return True

"""Addition of a device result to a finished run and its report."""

from pathlib import Path

from onnxopt import model_file
from onnxopt.errors import DataError, FileError, UsageError, first_line
from onnxopt.files import open_regular
from onnxopt.measure.device.result import DeviceResult
from onnxopt.record.run import RunRecord
from onnxopt.report.device_result import device_record
from onnxopt.run.folder import RunFolder
from onnxopt.run.runs import read_record

FINISHED = ("won", "kept-original")


def add_to_run(result: DeviceResult, folder: Path) -> RunRecord:
    """Write a result into the record and the report of a finished run; an earlier one of the same device is replaced.

    Raises:
        DataError: ONX201 the result is not of the run's best model.
        UsageError: ONX110 the run is not finished.
        FileError: ONX501 there is no run, ONX503 it cannot be written, ONX505 it cannot be read, or its best model is
            not the one that was written.
    """
    run = read_record(folder)
    if run.status not in FINISHED or not folder.is_dir():
        hint = "Give the folder of a finished run; `onnxopt resume` finishes one."
        raise UsageError("ONX110", "the run is not finished", where=str(folder), hint=hint)
    best = {file.sha256 for file in run.best}
    if best.isdisjoint(model.sha256 for model in result.models):
        raise DataError(
            "ONX201",
            "the result is of other models",
            where=str(folder),
            why="none of them is the best.onnx of the run",
            hint=f"Make the kit from it: onnxopt bundle MODEL {folder / 'best.onnx'} --data ...",
        )
    for file in run.best:
        _refuse_damaged(folder / file.name, file.sha256, folder)
    added = device_record(result)
    others = (device for device in run.devices if device.facts.get("device") != added.facts.get("device"))
    run = run.model_copy(update={"devices": (*others, added)})
    RunFolder(folder, overwrite=True).finish(run)
    return run


def _refuse_damaged(path: Path, sha256: str, folder: Path) -> None:
    """Refuse a run whose best model is another than its record says: a new manifest would call it whole."""
    try:
        open_regular(path, inside=folder).close()
        why = "" if model_file.sha256_of(path) == sha256 else "it differs from its checksum"
    except (OSError, ValueError) as error:
        why = first_line(error)
    if why:
        hint = f"onnxopt verify {folder} shows what is damaged."
        raise FileError("ONX505", "the best model of the run cannot be used", where=str(path), why=why, hint=hint)

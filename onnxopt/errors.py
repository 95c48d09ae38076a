"""Errors with stable codes; each is one line with what, where, why and a hint.

The first digit of a code names the cause and decides the exit status of the command line:
``1`` the call, ``2`` the data, ``3`` the model, ``4`` the runtime, ``5`` the disk, ``9`` a bug in onnxopt.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import IntEnum
from functools import partial
from types import MappingProxyType
from typing import ClassVar

from onnxopt.printable import printable


class ExitCode(IntEnum):
    """Exit statuses of the command line."""

    OK = 0
    LIMIT_NOT_MET = 1
    USAGE = 2
    MODEL_REJECTED = 3
    NATIVE_FAILURE = 4
    IO = 5
    BUG = 70
    INTERRUPTED = 130


CODES: Mapping[str, str] = MappingProxyType(
    {
        "ONX101": "an option has an invalid value",
        "ONX102": "an option, a configuration key or a pass option is unknown",
        "ONX103": "no pass has this name",
        "ONX104": "a pass specification cannot be read",
        "ONX105": "a configuration file cannot be read",
        "ONX106": "the execution provider is not in this build of ONNX Runtime",
        "ONX107": "a user function (file.py:function) cannot be used",
        "ONX108": "a package that this needs is not installed",
        "ONX109": "two options exclude each other",
        "ONX110": "the folder holds no search to resume, or one with other options",
        "ONX111": "the source is of no framework that can be exported",
        "ONX112": "an option does not apply here",
        "ONX113": "a required argument is missing",
        "ONX114": "samples are needed here, and none were given",
        "ONX115": "the calibration samples and the data are the same samples",
        "ONX116": "trials of this model or these samples cannot run in another process",
        "ONX117": "no worker of the cluster measures latency",
        "ONX201": "the data does not exist or is in no known format",
        "ONX202": "a model input is missing from the data",
        "ONX203": "the data has another shape than the model expects",
        "ONX204": "the data has another type than the model expects",
        "ONX205": "there are no samples, or too few",
        "ONX206": "the labels do not fit the samples",
        "ONX207": "the data or labels hold NaN or infinite values",
        "ONX208": "labels are needed here and the data has none",
        "ONX209": "the metric does not fit the model's outputs or the labels",
        "ONX301": "the file is not an ONNX model, or it is damaged",
        "ONX302": "the model's IR version or opset is not supported",
        "ONX303": "the model's external data is missing, too short, or does not match its checksum",
        "ONX304": "ONNX Runtime cannot load the model",
        "ONX305": "the model is invalid",
        "ONX306": "a pass made an invalid model; it was not kept",
        "ONX307": "the opset cannot be raised without changing the outputs",
        "ONX308": "the two models do not have the same inputs and outputs",
        "ONX309": "the model has operators that cannot be trained",
        "ONX310": "the trained form of the model gives other outputs than ONNX Runtime",
        "ONX311": "the framework's exporter failed",
        "ONX312": "the exported model gives other outputs than its source",
        "ONX313": "the model does not give the same outputs twice for the same inputs",
        "ONX314": "a session file or its model is for another model, processor or runtime",
        "ONX401": "ONNX Runtime failed while running the model",
        "ONX402": "ONNX Runtime's quantizer failed",
        "ONX403": "latency measured under emulation would be meaningless",
        "ONX404": "the device cannot be reached",
        "ONX405": "the run on the device failed",
        "ONX406": "the process of a trial failed, or broke its limit of time or memory",
        "ONX407": "the cluster's scheduler cannot be reached, or its timing workers or the device of a search are lost",
        "ONX408": "the time limit is too short to measure the baseline",
        "ONX409": "the host is too busy to measure a latency",
        "ONX410": "a run of the model does not end",
        "ONX501": "the file does not exist",
        "ONX502": "the output exists",
        "ONX503": "the output cannot be written",
        "ONX504": "the output would overwrite a file that is read, or one of another kind",
        "ONX505": "the file cannot be read",
        "ONX506": "another search is running in the folder",
        "ONX901": "a bug in onnxopt",
    }
)


class OnnxoptError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        code: a key of `CODES`.
        what: the fault, in a few words.
        where: the file, input, node or option it is about.
        why: the cause, with the values found.
        hint: the remedy.
    """

    family: ClassVar[str] = "9"
    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, code: str, what: str, *, where: str = "", why: str = "", hint: str = "") -> None:
        if code not in CODES or not code.startswith(f"ONX{self.family}"):
            raise ValueError(f"{type(self).__name__} has no code {code}")
        self.code, self.what, self.where, self.why, self.hint = code, what, where, why, hint
        super().__init__(str(self))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle by their positional arguments alone.
        about = {"where": self.where, "why": self.why, "hint": self.hint}
        return partial(type(self), **about), (self.code, self.what)

    def __str__(self) -> str:
        text = f"{self.code}: {self.what}"
        if self.where:
            text += f" [{self.where}]"
        if self.why:
            text += f": {self.why}"
        return printable(f"{text}. {self.hint}" if self.hint else text)


class UsageError(OnnxoptError):
    """The call or its configuration is wrong."""

    family, exit_code = "1", ExitCode.USAGE


class DataError(OnnxoptError):
    """The samples or labels do not fit."""

    family, exit_code = "2", ExitCode.USAGE


class ModelError(OnnxoptError):
    """The model cannot be used, or a pass broke it."""

    family, exit_code = "3", ExitCode.MODEL_REJECTED


class NativeError(OnnxoptError):
    """ONNX Runtime failed."""

    family, exit_code = "4", ExitCode.NATIVE_FAILURE


class FileError(OnnxoptError):
    """Reading or writing failed."""

    family, exit_code = "5", ExitCode.IO


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known name closest to `name`; without a close one, with all known names."""
    choices = sorted(known)
    close = get_close_matches(name, choices, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(choices)}."


def first_line(error: BaseException, limit: int = 300) -> str:
    """Return the first meaningful line of a foreign exception, for use as a `why`."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text if len(text) <= limit else text[: limit - 3] + "..."

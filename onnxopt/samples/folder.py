"""Folders of samples."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxopt.errors import DataError
from onnxopt.model_file import Signature
from onnxopt.model_file.tensor_file import read_tensor_file
from onnxopt.options.reading import ReadOptions
from onnxopt.samples.archive import read_archive, read_array
from onnxopt.samples.audio.clips import open_sounds
from onnxopt.samples.audio.files import is_sound
from onnxopt.samples.core import Source
from onnxopt.samples.images import LABEL_FILE, is_image, open_images, refuse_outside
from onnxopt.samples.stream import open_stream


def open_folder(folder: Path, signature: Signature, options: ReadOptions, limit: int | None) -> Source:
    """Return the samples in a folder of .npz files, of images, of sound, or of ONNX test data (`input_0.pb`).

    Raises:
        DataError: ONX201 to ONX206, see the readers.
        UsageError: ONX108, ONX112 or ONX113, see the readers.
    """
    tests = [folder] if (folder / "input_0.pb").is_file() else sorted(folder.glob("test_data_set_*"), key=_number)
    if tests:
        refuse_outside(folder, [file for test in tests for file in test.glob("input_*.pb")])
        return OnnxRuns.of(folder, tests, signature)
    archives = sorted(folder.glob("*.npz")) + sorted(folder.glob("*.npy"))
    if archives:
        refuse_outside(folder, archives)
        return open_stream(str(folder), _items(archives), signature, options.memory_mb << 20, limit)
    images = any(is_image(file) for file in folder.rglob("*"))
    if not images and any(is_sound(file) for file in folder.rglob("*")):
        return open_sounds(folder, signature, options)
    if images or (folder / LABEL_FILE).is_file():
        return open_images(folder, signature, options)
    raise DataError(
        "ONX205",
        "there are no samples in the folder",
        where=str(folder),
        why="no .npz, .npy, image, sound or input_0.pb files",
        hint="Put samples into it, or name another folder.",
    )


def _items(files: Sequence[Path]) -> Iterator[Mapping[str, np.ndarray] | np.ndarray]:
    for file in files:
        yield read_archive(file) if file.suffix == ".npz" else read_array(file)


def _number(path: Path) -> int:
    digits = re.search(r"\d+$", path.stem)
    return int(digits[0]) if digits else -1


@dataclass(frozen=True, eq=False)
class OnnxRuns:
    """ONNX's own test data: a folder per run, in it one tensor file per input in graph order."""

    name: str
    runs: Sequence[Sequence[Path]]
    inputs: Sequence[str]
    labels: None = None
    stacks = False

    @classmethod
    def of(cls, folder: Path, tests: Sequence[Path], signature: Signature) -> "OnnxRuns":
        """Find the tensor files of every run.

        Raises:
            DataError: ONX202 a run has not one file per model input.
        """
        inputs = [spec.name for spec in signature.inputs]
        runs = [sorted(test.glob("input_*.pb"), key=_number) for test in tests]
        for test, files in zip(tests, runs, strict=True):
            if len(files) != len(inputs):
                why = f"{len(files)} files for {len(inputs)} inputs"
                raise DataError("ONX202", "the test data does not have one file per input", where=str(test), why=why)
        return cls(str(folder), runs, inputs)

    def __len__(self) -> int:
        return len(self.runs)

    def read(self, index: int) -> dict[str, np.ndarray]:
        """Return the inputs of one run."""
        return {name: read_tensor_file(file) for name, file in zip(self.inputs, self.runs[index], strict=True)}

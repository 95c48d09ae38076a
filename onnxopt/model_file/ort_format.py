"""The `.ort` format of ONNX Runtime's mobile builds, by the runtime's own converter."""

import logging
import tempfile
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from onnxopt.errors import FileError, ModelError, first_line
from onnxopt.model_file.room import is_about_room, no_room
from onnxopt.model_file.save import atomic_write_bytes, refuse_existing

CONFIG_SUFFIX = ".required_operators.config"


def write_ort(model: Path, out: Path, *, arm: bool = False, overwrite: bool = False) -> tuple[Path, Path]:
    """Write the ONNX file `model` as `out`, optimized, and beside it the operators that a reduced build needs.

    Args:
        model: the ONNX file.
        out: the `.ort` file.
        arm: keep what only ARM processors run well; else what others do.
        overwrite: whether the files may exist.

    Returns:
        `out` and the file of operators.

    Raises:
        FileError: ONX501 the model does not exist, ONX502 an output exists, ONX503 there is no room.
        ModelError: ONX304 ONNX Runtime cannot load the model.
    """
    from onnxruntime.tools import convert_onnx_models_to_ort as converter

    if not model.is_file():
        raise FileError("ONX501", "the model file does not exist", where=str(model), hint="Check the path.")
    operators = out.with_name(out.stem + CONFIG_SUFFIX)
    for path in (out, operators):
        refuse_existing(path, overwrite)
    logging.getLogger("ort_format_model").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as name:
        folder = Path(name)
        try:
            # It prints every step, prints errors twice, and leaves a file open.
            with redirect_stdout(StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                converter.convert_onnx_models_to_ort(
                    model,
                    output_dir=folder,
                    optimization_styles=[converter.OptimizationStyle.Fixed],
                    target_platform="arm" if arm else "amd64",
                )
        except Exception as error:  # the converter's errors have no common base class
            if is_about_room(error):
                raise no_room(name, first_line(error)) from error
            raise ModelError(
                "ONX304", "ONNX Runtime cannot convert the model", where=str(model), why=first_line(error)
            ) from error
        made = folder / f"{model.stem}.ort"
        text = (folder / f"{model.stem}{CONFIG_SUFFIX}").read_text(encoding="utf-8")
        atomic_write_bytes(out, made.read_bytes(), overwrite=overwrite)
        # The converter names its temporary file there.
        lines = [f"# - {out.name}" if line.startswith("# - ") else line for line in text.splitlines()]
        atomic_write_bytes(operators, ("\n".join(lines) + "\n").encode(), overwrite=overwrite)
    return out, operators

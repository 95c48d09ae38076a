"""Loading of a model as its session.json says."""

import platform
from pathlib import Path

import onnxruntime

from onnxopt.errors import FileError, ModelError
from onnxopt.measure.forms.session_file import NAME, MadeFor, SessionFile, read_session_file, runtime_of
from onnxopt.measure.runtime.environment import instruction_sets
from onnxopt.measure.runtime.session import Session
from onnxopt.target import detect


def this_machine() -> MadeFor:
    """Return the hardware that a file optimized here is for."""
    # A system that does not list instruction sets has at least a name for the processor.
    sets = tuple(instruction_sets()) or (platform.processor() or "unknown", detect().name)
    return MadeFor(
        architecture=platform.machine(),
        instruction_sets=sets,
        onnxruntime=str(onnxruntime.__version__),
    )


def load_session(folder: str | Path) -> "onnxruntime.InferenceSession":
    """Load the model beside a session.json with the settings in it.

    Args:
        folder: the folder that holds session.json, or the file itself.

    Raises:
        FileError: ONX501 there is no session.json or no model, ONX505 it cannot be read.
        UsageError: ONX105 it is not what `onnxopt session` writes.
        ModelError: ONX314 it is for another model, processor or runtime, ONX304 ONNX Runtime cannot load the model.
    """
    path = Path(folder)
    path = path / NAME if path.is_dir() else path
    found = read_session_file(path)
    model = path.with_name(found.model)
    if not model.is_file():
        raise FileError("ONX501", "the model of the session does not exist", where=str(model), hint="Copy it there.")
    refuse_another_machine(found, model, this_machine())
    return Session(model, runtime_of(found.settings)).native


def refuse_another_machine(found: SessionFile, model: Path, here: MadeFor) -> None:
    """Refuse a model of another size, and a file that was optimized for a machine other than `here`.

    Its kernels would read weights in the wrong order, or its graph would be of operators that this runtime lacks.

    Raises:
        ModelError: ONX314.
    """
    if model.stat().st_size != found.size_bytes:
        why = f"it has {model.stat().st_size} bytes, and the settings were measured on one of {found.size_bytes}"
        hint = "Run `onnxopt session` on this model."
        raise ModelError("ONX314", "the session file is of another model", where=str(model), why=why, hint=hint)
    if found.made_for is None or found.made_for == here:
        return
    hint = "Load the file that it was made from, or run `onnxopt session` on this machine."
    why = _unlike(found.made_for, here)
    raise ModelError("ONX314", "the file is for another processor or runtime", where=str(model), why=why, hint=hint)


def _unlike(made: MadeFor, here: MadeFor) -> str:
    if made.architecture != here.architecture:
        return f"it is for {made.architecture}, this is {here.architecture}"
    if made.onnxruntime != here.onnxruntime:
        return f"ONNX Runtime {made.onnxruntime} wrote it, this is {here.onnxruntime}"
    more = [flag for flag in made.instruction_sets if flag not in here.instruction_sets]
    less = [flag for flag in here.instruction_sets if flag not in made.instruction_sets]
    lacking = [f"this processor lacks {', '.join(more)}"] if more else []
    having = [f"this processor has {', '.join(less)} besides"] if less else []
    return "; ".join(lacking + having)

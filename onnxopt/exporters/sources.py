"""Sources of an export: recognition of the framework, and loading."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import MappingProxyType
from typing import Any

from onnxopt.errors import DataError, FileError, UsageError, first_line
from onnxopt.exporters.converted import Converted, Wanted
from onnxopt.exporters.packages import require
from onnxopt.extras import install_hint
from onnxopt.samples.archive import read_archive

FRAMEWORKS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "torch": ("torch_module", "convert"),
        "keras": ("keras_model", "convert"),
        "saved-model": ("tensorflow_files", "convert_saved_model"),
        "tflite": ("tensorflow_files", "convert_tflite"),
        "sklearn": ("sklearn_model", "convert"),
        "xgboost": ("boosted_trees", "convert"),
        "lightgbm": ("boosted_trees", "convert"),
        "jax": ("jax_function", "convert"),
        "paddle": ("paddle_layer", "convert"),
    }
)
"""The file here that exports a framework, and the function in it."""

_SUFFIXES = {".keras": "keras", ".h5": "keras", ".tflite": "tflite", ".txt": "lightgbm"}
_PICKLES = (".pkl", ".pickle", ".joblib")
_BASES = {
    # On its torch backend a Keras model is a torch module too.
    "keras.src.models.model": "keras",
    "torch.nn.modules.module": "torch",
    "flax.nnx.module": "jax",
    "paddle.nn.layer.layers": "paddle",
    "xgboost.core": "xgboost",
    "xgboost.sklearn": "xgboost",
    "lightgbm.basic": "lightgbm",
    "lightgbm.sklearn": "lightgbm",
    "sklearn.base": "sklearn",
}
"""Module and name of the base class of a framework's models; the first match counts."""

_EXTRAS = {"torch": "export", "keras": "keras", "tensorflow": "tensorflow", "sklearn": "sklearn", "jax": "jax"}
"""The extra or hint that brings the packages that sources import."""

FORMS = (
    "It is file.py:function that returns (model, inputs), a .keras or .h5 file, a SavedModel folder, a .tflite file, "
    "a .pkl or .joblib file of scikit-learn, XGBoost or LightGBM, LightGBM's .txt, or an .onnx file for --out NAME.ort."
)


def converter(framework: str) -> Callable[[Any, Wanted], Converted]:
    """Return the function that exports models of `framework`."""
    file, function = FRAMEWORKS[framework]
    found: Callable[[Any, Wanted], Converted] = getattr(import_module(f"onnxopt.exporters.{file}"), function)
    return found


def source_of(source: Any) -> tuple[str, Any, Any]:
    """Return the framework of `source`, the input of its converter, and example inputs or None.

    Opening `file.py:function` or a pickle runs the code in it.

    Raises:
        UsageError: ONX107 the function fails, ONX108 a package is missing, ONX111 it is of no known kind.
        FileError: ONX501 it does not exist, ONX505 it cannot be read.
    """
    if isinstance(source, str | Path):
        return _opened_file(source)
    return framework_of(source), source, None


def framework_of(model: Any) -> str:
    """Return the framework that the class of `model` comes from.

    Raises:
        UsageError: ONX111 none that is known.
    """
    for base, framework in _BASES.items():
        if any(kind.__module__ == base for kind in type(model).__mro__):
            return framework
    # A function of arrays is JAX's only where JAX is in use.
    if callable(model) and "jax" in sys.modules:
        return "jax"
    raise UsageError("ONX111", "this is not a model that can be exported", where=type(model).__name__, hint=FORMS)


def read_inputs(path: Path) -> Any:
    """Return the arrays of an `.npz` file by name, or in order where they were saved without names.

    Raises:
        DataError: ONX201 it is not such a file.
    """
    try:
        arrays = read_archive(path)
    except (DataError, FileError) as error:
        hint = "Write one with numpy.savez(path, name=array)."
        raise DataError("ONX201", "the example inputs cannot be read", where=str(path), hint=hint) from error
    return tuple(arrays.values()) if all(name.startswith("arr_") for name in arrays) else arrays


def _opened_file(source: str | Path) -> tuple[str, Any, Any]:
    path = Path(source)
    file, separator, function = str(source).rpartition(":")
    if separator and file.endswith(".py"):
        made = _called(Path(file), function)
        model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        return framework_of(model), model, inputs
    if not path.exists():
        raise FileError("ONX501", "the source does not exist", where=str(source), hint="Check the path.")
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return "saved-model", path, None
    if path.suffix in _PICKLES:
        model = _unpickled(path)
        return framework_of(model), model, None
    if path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix], path, None
    raise UsageError("ONX111", "this is not a source that can be exported", where=str(source), hint=FORMS)


def _called(path: Path, function: str) -> Any:
    where = f"{path}:{function}"
    if not path.is_file():
        raise UsageError("ONX107", "the source's file does not exist", where=str(path), hint="Give file.py:function.")
    name = path.stem if path.stem not in sys.modules else f"onnxopt_source_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None  # the suffix is .py
    assert spec.loader is not None
    module = module_from_spec(spec)
    # As for a script: its neighbours can be imported, and its classes are found by their module's name.
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[name] = module
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
        return getattr(module, function)()
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        raise UsageError(
            "ONX108",
            "this source needs a package that is not installed",
            where=where,
            why=first_line(error),
            hint=install_hint(extra) if extra else "Install it.",
        ) from error
    except Exception as error:  # whatever the user's code raises
        why = f"it failed with {type(error).__name__}: {first_line(error)}"
        raise UsageError("ONX107", "the source's function cannot be used", where=where, why=why) from error
    finally:
        sys.dont_write_bytecode = written
        sys.path.remove(str(path.parent.resolve()))


def _unpickled(path: Path) -> Any:
    try:
        return require("joblib", "sklearn").load(path)
    except ImportError as error:
        hint = "Install the package that the model was made with."
        raise UsageError(
            "ONX108",
            "this model needs a package that is not installed",
            where=str(path),
            why=first_line(error),
            hint=hint,
        ) from error
    except (OSError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise FileError("ONX505", "the model cannot be read", where=str(path), why=first_line(error)) from error

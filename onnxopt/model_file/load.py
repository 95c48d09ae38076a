"""Loading of ONNX files, with a separate error for each kind of defect."""

import math
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from onnxopt.errors import FileError, ModelError, first_line
from onnxopt.model_file.functions import check_functions
from onnxopt.model_file.normal import normalize
from onnxopt.model_file.proto import damaged_names, from_proto, stored_tensors
from onnxopt.model_file.streamed import DATA_DIGEST
from onnxopt.model_file.valid import refuse_invalid

MIN_IR_VERSION, MIN_OPSET = 3, 7


def load(path: str | Path) -> ir.Model:
    """Read the model at `path`; weights in external files stay on disk, memory-mapped.

    Args:
        path: the path of the `.onnx` file.

    Raises:
        FileError: ONX501 it does not exist, ONX505 it cannot be read.
        ModelError: ONX301 not ONNX or damaged, ONX302 too old or too new, ONX303 external data missing or short, ONX305
            nothing gives a value that is read.
    """
    path = Path(path)
    if not path.exists():
        raise FileError("ONX501", "the model file does not exist", where=str(path), hint="Check the path.")
    if not path.is_file():
        raise FileError(
            "ONX505", "the model is not a file", where=str(path), hint="Name the .onnx file, not a folder or a pipe."
        )
    try:
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except OSError as error:
        raise FileError("ONX505", "the model file cannot be read", where=str(path), why=first_line(error)) from error
    except DecodeError as error:
        raise _not_onnx(path, "the bytes are no ONNX protobuf") from error
    if not _is_whole(proto):
        raise _not_onnx(path, "there is no whole graph in it")
    damaged = _damage(proto)
    if damaged:
        raise _not_onnx(path, damaged)
    _check_versions(proto, str(path))
    check_functions(proto, str(path))
    _check_external(proto, path)
    try:
        _read_inner_tensors(proto, path.parent)
    except Exception as error:  # onnx raises many types on external data
        raise _not_onnx(path, first_line(error)) from error
    _enter(proto, str(path))  # behind external data: what looks at a tensor's numbers must not read a file by its name
    try:
        model = from_proto(proto)
    except Exception as error:  # onnx-ir raises many types on malformed graphs
        raise _not_onnx(path, first_line(error)) from error
    ir.external_data.set_base_dir(model.graph, str(path.parent))
    model.metadata_props.pop(DATA_DIGEST, None)  # of this file; a copy has another
    return model


def refuse_endless(path: Path) -> None:
    """Refuse a file whose functions expand without end, before anything expands them; other faults are left to `load`.

    Raises:
        ModelError: ONX305, naming the function.
    """
    try:
        proto = onnx.load(str(path), format="protobuf", load_external_data=False)
    except (OSError, DecodeError):
        return
    check_functions(proto, str(path))


def _read_inner_tensors(proto: onnx.ModelProto, folder: Path) -> None:
    """Read the tensors in files that are no weights of the main graph: only those can be mapped from the disk."""
    weights = list(proto.graph.initializer)  # held, for protobuf gives one object per part while it is held
    mapped = {id(tensor) for tensor in weights}
    for tensor in (t for t in stored_tensors(proto) if _is_external(t) and id(t) not in mapped):
        if "length" not in {entry.key for entry in tensor.external_data}:
            size = math.ceil(math.prod(tensor.dims) * ir.DataType(tensor.data_type).itemsize)
            tensor.external_data.add(key="length", value=str(size))
        onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def from_memory(proto: onnx.ModelProto) -> ir.Model:
    """Convert a protobuf that somebody holds, without modifying it.

    Raises:
        ModelError: ONX301 there is no whole graph in it, or weights of it lie in files; ONX302 too old or too new;
            ONX305 nothing gives a value that is read.
    """
    where = "a ModelProto"
    if not _is_whole(proto):
        raise ModelError("ONX301", "not a readable ONNX model", where=where, why="there is no whole graph in it")
    damaged = _damage(proto)
    if damaged:
        raise ModelError("ONX301", "not a readable ONNX model", where=where, why=damaged)
    _check_versions(proto, where)
    check_functions(proto, where)
    if any(map(_is_external, stored_tensors(proto))):
        why, hint = "its weights lie in external files", "Give the path of the file, or load it with its data."
        raise ModelError("ONX301", "not a readable ONNX model", where=where, why=why, hint=hint)
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    _enter(copied, where)
    try:
        return from_proto(copied)
    except Exception as error:  # onnx-ir raises many types on malformed graphs
        raise ModelError("ONX301", "not a readable ONNX model", where=where, why=first_line(error)) from error


def _enter(proto: onnx.ModelProto, where: str) -> None:
    """Bring a protobuf into the one form that all other code relies on, in place; refuse an invalid one."""
    normalize(proto, where)
    refuse_invalid(proto, where)


def _is_whole(proto: onnx.ModelProto) -> bool:
    return bool(proto.opset_import) and bool(proto.graph.node or proto.graph.output)


def _not_onnx(path: Path, why: str) -> ModelError:
    size = path.stat().st_size
    return ModelError(
        "ONX301",
        "not a readable ONNX model",
        where=str(path),
        why=f"{why} ({size} bytes)",
        hint="Export or download it again, and compare the size with the source.",
    )


def _check_versions(proto: onnx.ModelProto, where: str) -> None:
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    newest = onnx.defs.onnx_opset_version()
    if proto.ir_version < MIN_IR_VERSION or (opset is not None and not MIN_OPSET <= opset <= newest):
        raise ModelError(
            "ONX302",
            "the model's format version is not supported",
            where=where,
            why=f"IR version {proto.ir_version}, opset {opset}; supported: IR {MIN_IR_VERSION} and up, "
            f"opset {MIN_OPSET} to {newest}",
            hint="Export it again with an opset in that range.",
        )


def _damage(proto: onnx.ModelProto) -> str:
    """Return the first name that is not text, as a reason; "" if all names are text."""
    damaged = next(damaged_names(proto), None)
    return "" if damaged is None else f"a name in it is not text: {damaged!r}"


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _check_external(proto: onnx.ModelProto, path: Path) -> None:
    for tensor in filter(_is_external, stored_tensors(proto)):
        entries = {e.key: e.value for e in tensor.external_data}
        location = Path(entries.get("location", ""))
        file = path.parent / location
        if not _stays_inside(location, path.parent):
            raise ModelError(
                "ONX303",
                "external data lies outside the model's folder, or is a link",
                where=str(file),
                why=f"weight {tensor.name!r} names it",
                hint=f"Copy the file itself beside {path.name}.",
            )
        try:
            start, length = (int(entries.get(key, 0)) for key in ("offset", "length"))
            if min(start, length) < 0:
                raise ValueError("its place in the file is negative")
            need = start + max(length, math.ceil(math.prod(tensor.dims) * ir.DataType(tensor.data_type).itemsize))
        except (ValueError, TypeError) as error:
            raise _not_onnx(path, f"weight {tensor.name!r}: {first_line(error)}") from error
        have = file.stat().st_size if file.is_file() else None
        if have is None or have < need:
            raise ModelError(
                "ONX303",
                "external data is missing" if have is None else "external data is too short",
                where=str(file),
                why=f"weight {tensor.name!r} needs {need} bytes of it" + ("" if have is None else f", it has {have}"),
                hint=f"Put the complete file beside {path.name}.",
            )


def _stays_inside(location: Path, folder: Path) -> bool:
    """Whether onnx-ir will read the file: it follows no link out of the folder, and reads no file with two names."""
    file = folder / location
    if "\0" in str(location):  # the system ends a name there
        return False
    if location.is_absolute() or ".." in location.parts or not file.resolve().is_relative_to(folder.resolve()):
        return False
    return not file.is_file() or file.stat().st_nlink == 1

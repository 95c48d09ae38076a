"""ONNX files and nothing else: load, check, save, fingerprint. The only seam to protobuf and to the disk."""

from onnxopt.model_file.given import Given, as_graph, given
from onnxopt.model_file.held import drop_leftovers, keep_on_disk, share_weights
from onnxopt.model_file.load import load, refuse_endless
from onnxopt.model_file.manifest import refuse_changed_data, sha256_of, write_manifest
from onnxopt.model_file.memory import (
    Operator,
    Operators,
    check,
    fits_protobuf,
    flush_denormals,
    from_bytes,
    from_runtime,
    materialize,
    operators_of,
    size_bytes,
)
from onnxopt.model_file.opset import opset_of, upgrade_opset
from onnxopt.model_file.proto import from_proto, to_proto
from onnxopt.model_file.save import (
    atomic_write,
    atomic_write_bytes,
    atomic_write_text,
    refuse_existing,
    save,
    size_of,
    stamped,
)
from onnxopt.model_file.serialized import digest, pieces, to_bytes
from onnxopt.model_file.signature import Signature, TensorSpec, probe_feeds, signature_of
from onnxopt.model_file.together import by_data, save_together, shared_data, size_together

__all__ = [
    "Given",
    "Operator",
    "Operators",
    "Signature",
    "TensorSpec",
    "as_graph",
    "atomic_write",
    "atomic_write_bytes",
    "atomic_write_text",
    "by_data",
    "check",
    "digest",
    "drop_leftovers",
    "fits_protobuf",
    "flush_denormals",
    "from_bytes",
    "from_proto",
    "from_runtime",
    "given",
    "keep_on_disk",
    "load",
    "materialize",
    "operators_of",
    "opset_of",
    "pieces",
    "probe_feeds",
    "refuse_changed_data",
    "refuse_endless",
    "refuse_existing",
    "save",
    "save_together",
    "sha256_of",
    "share_weights",
    "shared_data",
    "signature_of",
    "size_bytes",
    "size_of",
    "size_together",
    "stamped",
    "to_bytes",
    "to_proto",
    "upgrade_opset",
    "write_manifest",
]

"""Inputs of a cached sensitivity: it is valid while all of them are unchanged."""

import hashlib

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.measure.runtime.environment import environment
from onnxopt.pipeline import Context


def evidence_key(model: ir.Model, context: Context, *words: str) -> str | None:
    """Return a checksum of a model, the samples, the target, the versions and `words`; None for a model too large.

    Losses do not depend on the machine, but for rounding: the instruction set is part of the target.
    """
    if context.calibration is None or not model_file.fits_protobuf(model):
        return None
    digest = hashlib.sha256(model_file.to_bytes(model))
    versions = sorted(environment()["versions"].items())
    for part in (context.calibration.fingerprint, context.target.name, str(context.seed), str(versions), *words):
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()

"""A check of each file before it takes its place: ONNX Runtime loads it and runs it once."""

import math
import threading
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import onnxruntime

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.runtime.session import MAPPED, Runtime, Session, failures_named
from onnxopt.model_file import fits_protobuf, probe_feeds, signature_of
from onnxopt.samples import Feeds, Samples

PATIENCE_S = 9.0
"""Time limit of the run on one sample; a longer run is stopped and passes, because the file loads and starts.

Some commands run the model before too; both together end within 20 s.
"""

MAX_MADE_UP = 1 << 26
"""Most elements of generated inputs; a model can declare inputs of any size."""


def proof(source: ir.Model, samples: Samples | None = None) -> Callable[[Path], None]:
    """Return the check of a file made from `source`: it loads and runs the file once, on a sample or a generated input.

    Generated inputs may have sizes that the model does not accept: an input on which `source` fails too proves nothing.

    Raises:
        ModelError: (the check) ONX304 ONNX Runtime can load neither model, ONX306 it loads or runs only `source`.
    """
    # A session that is optimized keeps a second copy of all weights.
    runtime = Runtime() if fits_protobuf(source) else MAPPED

    def check(path: Path) -> None:
        try:
            session = Session(path, runtime)
        except ModelError as error:
            Session(source, runtime)  # if this fails too, the fault is in the source
            raise _bad("ONNX Runtime does not load it", error.why) from error
        feeds = _feeds(source, samples)
        if feeds is None:
            return
        try:
            ends(session, feeds)
        except NativeError as error:
            try:
                ends(Session(source, runtime), feeds)
            except NativeError:
                if samples is None:
                    return
                raise
            raise _bad("ONNX Runtime does not run it", error.why) from error

    return check


def loads(path: Path) -> None:
    """Check that ONNX Runtime loads the file of a model that ran before.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load it.
    """
    Session(path, Runtime())


def _feeds(source: ir.Model, samples: Samples | None) -> Feeds | None:
    if samples is not None:
        return next(iter(samples.with_batch_size(1)))  # some models declare a free batch and run at one only
    signature = signature_of(source)
    if any(spec.dtype == "object" for spec in signature.inputs):
        return None  # sequences, maps
    numbers = sum(math.prod(d if isinstance(d, int) else 2 for d in spec.shape or ()) for spec in signature.inputs)
    return probe_feeds(signature) if numbers <= MAX_MADE_UP else None


def ends(session: Session, feeds: Feeds) -> bool:
    """Run once and return whether the run ended within `PATIENCE_S`, after which it is stopped.

    Raises:
        NativeError: ONX401 the run failed.
    """
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    ended = threading.Event()

    def stop() -> None:
        ended.set()
        options.terminate = True

    timer = threading.Timer(PATIENCE_S, stop)
    timer.daemon = True
    timer.start()
    try:
        with failures_named(feeds):
            session.native.run(None, {n: a for n, a in feeds.items() if n in session.input_names}, options)
    except NativeError:
        if not ended.is_set():
            raise
    finally:
        timer.cancel()
    return not ended.is_set()


def _bad(what: str, why: str | None) -> ModelError:
    hint = "Leave out the pass, or its option, that changed the operator named here; please report the model."
    return ModelError("ONX306", "the result was not written", why=f"{what}: {why}", hint=hint)

"""Quantization with fallback: a node on which the quantizer or its result fails stays in float."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.runtime.first_load import survive_float16
from onnxopt.measure.runtime.session import Loadable, Runtime, Session, session_and_graph
from onnxopt.measure.runtime.unused import without_work
from onnxopt.measure.runtime.written import ends
from onnxopt.model_file import probe_feeds, signature_of
from onnxopt.model_file.heap import without_collections
from onnxopt.quantization.built import Built
from onnxopt.quantization.closeness import Ratios
from onnxopt.samples import Feeds, Samples

Build = Callable[[tuple[str, ...]], Built]
"""Builds the quantized model with the named nodes in float."""
Measure = Callable[[Session], Ratios]
"""Measures a quantized model in an open session of it."""

_CONSTANT_SHARING = "ConstantSharing"
"""Of thousands of scales it seeks equal ones, which goes through all scales for each, and changes no value."""
_MOST_BUILDS = 64
"""Most builds of one model; the search for a culprit among a thousand nodes takes eleven."""
_ALIKE = 2
"""Number of culprits of one operator after which all its nodes are left in float."""


@dataclass(frozen=True)
class RunnableModel:
    """A quantized model that runs.

    Attributes:
        built: the quantized model.
        left: the reason of each node left in float.
        ratios: the measured signal-to-noise ratios.
        optimized: the runtime's graph of the model, as `opened` gives it.
    """

    built: Built
    left: Mapping[str, str]
    ratios: Ratios = ()
    optimized: bytes = b""

    @property
    def model(self) -> ir.Model:
        """The quantized model."""
        return self.built.model


def attempt(
    build: Build, nodes: Sequence[ir.Node], feeds: Feeds | None, measure: Measure | None = None
) -> RunnableModel:
    """Build a quantized model that ONNX Runtime loads and runs, with as few of `nodes` in float as possible.

    Args:
        build: quantizes all nodes except the given ones.
        nodes: nodes that may be quantized.
        feeds: one sample; None only loads the model.
        measure: measures the result, whose session is open already: opening one takes seconds.

    Raises:
        NativeError, ModelError: the error of the last build, if no set of nodes explains it.
    """
    return _Search(build, nodes, feeds, measure or (lambda session: ())).result()


def runnable_feeds(model: ir.Model, samples: Samples | None) -> Feeds | None:
    """Return a sample on which `model` runs, a generated one without samples; None if it runs on neither.

    A run that takes too long is stopped, and gives None too.
    """
    found = [] if samples is None else [next(iter(samples.with_batch_size(1)), None)]
    signature = signature_of(model)
    for feeds in (*found, *(probe_feeds(signature, dynamic=size) for size in (2, 1))):
        try:
            if feeds is not None:
                return feeds if ends(Session(model, Runtime()), feeds) else None
        except (NativeError, ModelError):
            continue
    return None


def loadable(built: Built) -> Loadable:
    """Return what a session is made of; raises like a session of the model."""
    if not built.data:
        return built.model
    if "Transpose" in built.op_types:
        survive_float16(built.model, built.data, Runtime().optimization)
    return built.data


def first_look(built: Built) -> Runtime:
    """Return the runtime for a first look at a quantized graph: without optimizers that change no value in it."""
    left_out = ";".join((_CONSTANT_SHARING, *without_work(built.op_types)))
    return Runtime(options=(("optimization.disable_specified_optimizers", left_out),))


class _Search:
    def __init__(self, build: Build, nodes: Sequence[ir.Node], feeds: Feeds | None, measure: Measure) -> None:
        self._build, self._feeds, self._measure = build, feeds, measure
        self._kinds = {node.name or "": node.op_type for node in nodes}
        self._left = dict[str, str]()
        self._builds = 0

    def result(self) -> RunnableModel:
        while True:
            made = self._try(())
            if isinstance(made, tuple):
                built, session, optimized = made
                return RunnableModel(built, self._left, self._measure(session), optimized)
            culprits = self._named(made) or self._bisected()
            if not culprits:
                raise made
            self._leave(culprits, made)

    @without_collections()
    def _try(self, more: tuple[str, ...]) -> tuple[Built, Session, bytes] | NativeError | ModelError:
        self._builds += 1
        try:
            built = self._build((*self._left, *more))
            source, runtime = loadable(built), first_look(built)
            # With more nodes in float it is not the result, whose graph alone is needed.
            session, optimized = (Session(source, runtime), b"") if more else session_and_graph(source, runtime)
            if self._feeds is not None:
                session.run(self._feeds)
        except (NativeError, ModelError) as error:
            return error
        return built, session, optimized

    def _rest(self) -> list[str]:
        return [name for name in self._kinds if name not in self._left]

    def _named(self, error: NativeError | ModelError) -> list[str]:
        """Return the node named in the message, if the message changes without it."""
        found = max((n for n in self._rest() if n and f"'{n}" in error.why), key=len, default="")
        if not found:
            return []
        after = self._try((found,))
        return [] if isinstance(after, Exception) and after.why == error.why else [found]

    def _bisected(self) -> list[str]:
        """Return the first node with which the build fails although all later nodes are left in float."""
        names = self._rest()
        low, high = 0, len(names)
        if not high or isinstance(self._try(tuple(names)), Exception):
            return []
        while high - low > 1:
            if self._builds >= _MOST_BUILDS:
                return names[low:high]
            middle = (low + high) // 2
            if isinstance(self._try(tuple(names[middle:])), Exception):
                high = middle
            else:
                low = middle
        return names[low:high]

    def _leave(self, culprits: list[str], error: NativeError | ModelError) -> None:
        reason = f"in INT8 the model does not run: {error.why}"
        for name in culprits:
            kind = self._kinds[name]
            self._left[name] = reason
            alike = [n for n in self._kinds if self._kinds[n] == kind]
            if sum(n in self._left for n in alike) >= _ALIKE:
                self._left |= {
                    n: f"in INT8 the model does not run with others of its kind ({kind})"
                    for n in alike
                    if n not in self._left
                }

"""Samples of a model with states: the model is run over consecutive windows, and each step's states are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.errors import DataError, NativeError
from onnxopt.measure.generation.states import State
from onnxopt.measure.runtime.session import Session
from onnxopt.model_file import Signature
from onnxopt.pipeline import StageProgress
from onnxopt.samples import Feeds, Samples
from onnxopt.samples.audio.clips import Clips
from onnxopt.samples.expect import has_batch_axis
from onnxopt.samples.fit import Fitted
from onnxopt.samples.shapes import fits
from onnxopt.samples.spool import Spool
from onnxopt.samples.text import Span, TextSource, part_of, prompt_and_steps, tokens_in, windows_of


@dataclass(frozen=True)
class Stepped:
    """A model with states, and the samples it runs on.

    Attributes:
        signature: the signature of the whole model.
        states: values that it keeps from step to step.
        samples: inputs of the steps, one after another.
        window: tokens per step, where the samples are texts; None for the first half at once and single tokens of the
            rest.
        whole: whether the model takes exactly that many.
    """

    session: Session
    signature: Signature
    states: Sequence[State]
    samples: Samples
    window: int | None
    whole: bool

    def spooled(self, limit: int | None, memory_bytes: int, progress: StageProgress) -> Spool:
        """Return each step's inputs, its states included, at most `limit` of them.

        Raises:
            DataError: ONX203 a state changes to a shape that the model does not take.
            NativeError: ONX401 the model fails.
            FileError: ONX503 the temporary file cannot be written.
        """
        stacks = has_batch_axis(self.signature)
        spool = Spool(self.samples.name, memory_bytes)
        labels: list[np.ndarray] = []
        spool.stacks = stacks
        names = [state.output.name for state in self.states]
        known = self.samples.labels
        kept: dict[str, np.ndarray] = {}
        for position, begins, is_sample, fed in self._steps():
            if begins:
                kept = self._start(fed)
            feeds = {**fed, **kept}
            if is_sample:
                spool.append({name: array[0] for name, array in feeds.items()} if stacks else feeds)
                if known is not None:
                    labels.append(known[position])
            progress("steps", position + 1, len(self.samples))
            if len(spool) == limit:
                break
            given = self._run(feeds, names)
            kept = {state.input.name: self._next(state, array) for state, array in zip(self.states, given, strict=True)}
        spool.labels = np.stack(labels) if labels else None
        return spool

    def _run(self, feeds: Feeds, names: list[str]) -> list[Any]:
        try:
            return self.session.run(feeds, names)
        except NativeError as error:
            source = self._inner
            if not isinstance(source, Clips):
                raise
            length = "whole clips" if source.length is None else f"windows of {source.length} samples"
            hint = (
                f"It was given {length} at {source.rate} Hz. Models of speech take one rate and one window: name them, "
                "such as --sample-rate 16000 --window 512."
            )
            raise NativeError("ONX401", "the model does not run on the sound", why=error.why, hint=hint) from error

    @property
    def _inner(self) -> object:
        source = self.samples.source
        return source.source if isinstance(source, Fitted) else source

    def _steps(self) -> Iterator[tuple[int, bool, bool, Feeds]]:
        """Yield the number of the sample, whether a sequence begins and the step counts, and inputs without states."""
        source, inner = self.samples.source, self._inner
        clips = inner.sequences if isinstance(inner, Clips) else np.zeros(len(source), int)
        before: int | None = None
        for position, index in enumerate(self.samples.indices):
            feeds = source.read(int(index))
            run = {name: array[None] for name, array in feeds.items()} if source.stacks else feeds
            if isinstance(inner, TextSource):
                for span in self._spans(tokens_in(run, inner.roles)):
                    yield position, span.start == 0, span.kept, part_of(run, inner.roles, span, grows=self._grows)
            else:
                yield position, before != clips[index], True, run
                before = int(clips[index])

    @property
    def _grows(self) -> bool:
        return any(state.grows for state in self.states)

    def _spans(self, tokens: int) -> tuple[Span, ...]:
        return prompt_and_steps(tokens) if self.window is None else windows_of(tokens, self.window, whole=self.whole)

    def _start(self, fed: Feeds) -> dict[str, np.ndarray]:
        sizes: dict[str, int] = {}
        for spec in self.signature.inputs:
            if spec.name in fed:
                sizes.update(
                    (dim, size)
                    for dim, size in zip(spec.shape or (), fed[spec.name].shape, strict=False)
                    if isinstance(dim, str)
                )
        return {state.input.name: state.start(sizes) for state in self.states}

    @staticmethod
    def _next(state: State, array: np.ndarray) -> np.ndarray:
        if fits(array.shape, state.input.shape or ()):
            return array
        raise DataError(
            "ONX203",
            "a state does not fit the input that takes it",
            where=f"{state.output.name} to {state.input.name}",
            why=f"it has shape {array.shape}; {state.input} is declared",
            hint="Name the pairs: --state INPUT=OUTPUT.",
        )

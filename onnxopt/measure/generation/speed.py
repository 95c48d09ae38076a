"""Time to the first token, and tokens per second: models alternate, loaded anew in every epoch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import onnx_ir as ir

from onnxopt.measure.generation.walk import DecoderPorts, Reads, Walk, generate
from onnxopt.measure.latency import Watch, refuse_emulation, watch_of
from onnxopt.measure.latency.estimate import MOST_WAITING
from onnxopt.measure.latency.summary import interval_of_ratio, too_wide
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.statistics import Interval

EPOCHS = 6

Prompt_contra = TypeVar("Prompt_contra", contravariant=True)
"""What a text begins with."""


@dataclass(frozen=True)
class Length:
    """Tokens of a text.

    Attributes:
        prompt: tokens that are read at once.
        new: tokens that are generated, one at a time.
    """

    prompt: int
    new: int


@dataclass(frozen=True)
class GenerationSpeed:
    """The speed of a decoder at one length.

    Attributes:
        first_token_ms: time to read the prompt and choose the first token.
        tokens_per_s: rate of the tokens behind the first one.
        first_speedup: baseline time to the first token over this model's; None for the baseline and if it is unsure.
        rate_speedup: this model's rate over the baseline's; None for the baseline and if it is unsure.
        text_speedup: baseline time of a whole text over this model's, both parts weighted; None for the baseline and if
            it is unsure.
        texts: number of texts that were generated.
        first_unsure: the reason why the time to the first token is unknown; "" if it is known.
        rate_unsure: the reason why the rate is unknown; "" if it is known.
        text_unsure: the reason why the time of a whole text is unknown; "" if it is known.
    """

    first_token_ms: float
    tokens_per_s: float
    first_speedup: Interval | None
    rate_speedup: Interval | None
    text_speedup: Interval | None
    texts: int
    first_unsure: str = ""
    rate_unsure: str = ""
    text_unsure: str = ""


class Generator(Protocol[Prompt_contra]):
    """Whatever generates texts."""

    def load(self, runtime: Runtime, /) -> Callable[[Prompt_contra], tuple[Reads, np.ndarray]]:
        """Load it; return how a text begins: its reader, and the first tokens to read."""


@dataclass(frozen=True)
class Decoder:
    """A model with the names of its inputs, and its empty cache."""

    model: ir.Model
    ports: DecoderPorts
    start: Mapping[str, np.ndarray]

    def walk(self, session: Session) -> Walk:
        """Return the start of a text."""
        return Walk(session.run, self.ports, self.start)

    def load(self, runtime: Runtime) -> Callable[[np.ndarray], tuple[Walk, np.ndarray]]:
        """Load the model; return how a text begins that begins with certain tokens.

        Raises:
            ModelError: ONX304 the model cannot be loaded.
        """
        session = Session(self.model, runtime)
        return lambda prompt: (self.walk(session), prompt)


def measure_speed(
    decoders: Mapping[str, Generator[Prompt_contra]],
    prompts: Sequence[Prompt_contra],
    length: Length,
    runtime: Runtime,
    *,
    seconds: float,
    seed: int = 0,
    weights: tuple[float, float] = (1.0, 1.0),
    progress: Callable[[int, int], None] | None = None,
    watch: Watch | None = None,
) -> dict[str, GenerationSpeed]:
    """Generate texts with models in turn, on the same prompts, and return their speed; the first is the baseline.

    Args:
        decoders: by name.
        prompts: each of `length.prompt` tokens.
        length: of the texts.
        runtime: configuration of ONNX Runtime.
        seconds: of timed runs; each model generates one text per epoch at least.
        seed: of the order of models.
        weights: factors on the time to the first token and on that of the others, in the speed-up of a whole text.
        progress: called with the finished and the total number of epochs.
        watch: clock; None for that of the runtime's threads.

    Raises:
        ModelError: ONX304 a model cannot be loaded.
        NativeError: ONX401 a run failed, ONX403 this process is emulated.
    """
    refuse_emulation()
    timed_by = watch or watch_of(runtime.threads, on_processor=runtime.provider == Runtime().provider)

    def work() -> dict[str, GenerationSpeed]:
        rng = np.random.default_rng(seed)
        epochs, waits = [], list[float]()
        for number in range(EPOCHS):
            times, waited = _epoch(
                decoders, prompts, length, runtime=runtime, seconds=seconds / EPOCHS, watch=timed_by, rng=rng
            )
            epochs.append(times)
            waits += [] if waited is None or timed_by.pauses else [waited]
            if progress is not None:
                progress(number + 1, EPOCHS)
        return _summary(list(decoders), epochs, length, weights, max(waits, default=0.0))

    return interruptible(work)


def _epoch(
    decoders: Mapping[str, Generator[Prompt_contra]],
    prompts: Sequence[Prompt_contra],
    length: Length,
    *,
    runtime: Runtime,
    seconds: float,
    watch: Watch,
    rng: np.random.Generator,
) -> tuple[dict[str, list[tuple[int, int]]], float | None]:
    """Return the times of each text by model, and the share of the time that threads waited for a processor."""
    names = list(decoders)
    loaded = {names[i]: decoders[names[i]].load(runtime) for i in rng.permutation(len(names))}
    for name in names:  # the first runs allocate memory
        generate(*loaded[name](prompts[0]), 2, watch.own)
    taken = {name: list[tuple[int, int]]() for name in names}
    begun, waited = watch.wall(), watch.waited()
    turn = int(rng.integers(len(prompts)))
    while not taken[names[0]] or watch.wall() - begun < seconds * 1e9:
        prompt = prompts[turn % len(prompts)]
        turn += 1
        for i in rng.permutation(len(names)):
            name = names[i]
            taken[name].append(generate(*loaded[name](prompt), length.new, watch.own))
    after = watch.waited()
    spent = max(watch.wall() - begun, 1)
    return taken, None if waited is None or after is None else (after - waited) / spent


_WHOLE = 2
"""Number of the time that is the sum of the others."""


def _summary(
    names: Sequence[str],
    epochs: Sequence[Mapping[str, Sequence[tuple[int, int]]]],
    length: Length,
    weights: tuple[float, float],
    waited: float,
) -> dict[str, GenerationSpeed]:
    def typical(name: str, part: int) -> np.ndarray:
        times = ([text[part] if part < _WHOLE else np.dot(weights, text) for text in epoch[name]] for epoch in epochs)
        return np.array([max(float(np.median(some)), 1.0) for some in times])

    found = {}
    busy = "" if waited <= MOST_WAITING else "other programs kept its threads waiting for a processor"
    for name in names:
        ratios = [
            interval_of_ratio((typical(names[0], part) / typical(name, part)).tolist()) for part in (0, 1, _WHOLE)
        ]
        other = name != names[0]
        unsure = [busy or (too_wide(ratio) if other else "") for ratio in ratios]
        found[name] = GenerationSpeed(
            first_token_ms=float(np.median(typical(name, 0))) / 1e6,
            tokens_per_s=(length.new - 1) * 1e9 / float(np.median(typical(name, 1))),
            first_speedup=ratios[0] if other and not unsure[0] else None,
            rate_speedup=ratios[1] if other and not unsure[1] else None,
            text_speedup=ratios[_WHOLE] if other and not unsure[_WHOLE] else None,
            texts=sum(len(epoch[name]) for epoch in epochs),
            first_unsure=unsure[0],
            rate_unsure=unsure[1],
            text_unsure=unsure[_WHOLE],
        )
    return found

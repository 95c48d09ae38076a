"""Time to the first token, and tokens per second: models alternate, loaded anew in every epoch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.measure.generation.walk import DecoderPorts, Walk, generate
from onnxopt.measure.latency import Watch, refuse_emulation, watch_of
from onnxopt.measure.latency.estimate import MOST_WAITING
from onnxopt.measure.latency.summary import interval_of_ratio, too_wide
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.measure.statistics import Interval

EPOCHS = 6


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
        texts: number of texts that were generated.
        first_unsure: the reason why the time to the first token is unknown; "" if it is known.
        rate_unsure: the reason why the rate is unknown; "" if it is known.
    """

    first_token_ms: float
    tokens_per_s: float
    first_speedup: Interval | None
    rate_speedup: Interval | None
    texts: int
    first_unsure: str = ""
    rate_unsure: str = ""


@dataclass(frozen=True)
class Decoder:
    """A model with the names of its inputs, and its empty cache."""

    model: ir.Model
    ports: DecoderPorts
    start: Mapping[str, np.ndarray]

    def walk(self, session: Session) -> Walk:
        """Return the start of a text."""
        return Walk(session.run, self.ports, self.start)


def measure_speed(
    decoders: Mapping[str, Decoder],
    prompts: Sequence[np.ndarray],
    length: Length,
    runtime: Runtime,
    *,
    seconds: float,
    seed: int = 0,
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
        return _summary(list(decoders), epochs, length, max(waits, default=0.0))

    return interruptible(work)


def _epoch(
    decoders: Mapping[str, Decoder],
    prompts: Sequence[np.ndarray],
    length: Length,
    *,
    runtime: Runtime,
    seconds: float,
    watch: Watch,
    rng: np.random.Generator,
) -> tuple[dict[str, list[tuple[int, int]]], float | None]:
    """Return the times of each text by model, and the share of the time that threads waited for a processor."""
    names = list(decoders)
    sessions = {names[i]: Session(decoders[names[i]].model, runtime) for i in rng.permutation(len(names))}
    for name in names:  # the first runs allocate memory
        generate(decoders[name].walk(sessions[name]), prompts[0], 2, watch.own)
    taken = {name: list[tuple[int, int]]() for name in names}
    begun, waited = watch.wall(), watch.waited()
    turn = int(rng.integers(len(prompts)))
    while not taken[names[0]] or watch.wall() - begun < seconds * 1e9:
        prompt = prompts[turn % len(prompts)]
        turn += 1
        for i in rng.permutation(len(names)):
            name = names[i]
            taken[name].append(generate(decoders[name].walk(sessions[name]), prompt, length.new, watch.own))
    after = watch.waited()
    spent = max(watch.wall() - begun, 1)
    return taken, None if waited is None or after is None else (after - waited) / spent


def _summary(
    names: Sequence[str], epochs: Sequence[Mapping[str, Sequence[tuple[int, int]]]], length: Length, waited: float
) -> dict[str, GenerationSpeed]:
    def typical(name: str, part: int) -> np.ndarray:
        return np.array([max(float(np.median([text[part] for text in epoch[name]])), 1.0) for epoch in epochs])

    found = {}
    busy = "" if waited <= MOST_WAITING else "other programs kept its threads waiting for a processor"
    for name in names:
        ratios = [interval_of_ratio((typical(names[0], part) / typical(name, part)).tolist()) for part in (0, 1)]
        other = name != names[0]
        first_unsure, rate_unsure = (busy or (too_wide(ratio) if other else "") for ratio in ratios)
        found[name] = GenerationSpeed(
            first_token_ms=float(np.median(typical(name, 0))) / 1e6,
            tokens_per_s=(length.new - 1) * 1e9 / float(np.median(typical(name, 1))),
            first_speedup=ratios[0] if other and not first_unsure else None,
            rate_speedup=ratios[1] if other and not rate_unsure else None,
            texts=sum(len(epoch[name]) for epoch in epochs),
            first_unsure=first_unsure,
            rate_unsure=rate_unsure,
        )
    return found

"""Latency of models side by side, alternating in one process, so that disturbances affect all alike."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from onnxopt.errors import NativeError
from onnxopt.measure.latency.result import Latency, Progress
from onnxopt.measure.latency.rounds import race
from onnxopt.measure.latency.summary import MIN_EPOCHS, Epoch, summed_up
from onnxopt.measure.latency.watch import Watch, watch_of
from onnxopt.measure.resources.memory import footprint_of
from onnxopt.measure.runtime.emulation import emulator
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.providers import provider_name
from onnxopt.measure.runtime.session import Loadable, Runtime, Session, as_shipped, failures_named
from onnxopt.model_file.heap import trim_heap
from onnxopt.options.runtime import full
from onnxopt.samples import Feeds


def measure_latency(
    models: Mapping[str, Loadable],
    inputs: Sequence[Feeds],
    runtime: Runtime | Mapping[str, Runtime],
    *,
    seconds: float = 10.0,
    min_rounds: int = 16,
    warmup: int = 10,
    epochs: int = 8,
    lengthen: bool = True,
    memory: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    watch: Watch | None = None,
    emulation: Callable[[], str | None] = emulator,
) -> dict[str, Latency]:
    """Time models against the first of them, the baseline; Ctrl-C stops it.

    Time is split into epochs with newly loaded sessions, because the place of a session's memory makes it a little
    faster or slower for its lifetime. An epoch has many rounds; a round runs every model on the same inputs for a few
    milliseconds, in random order. The speed-up is the ratio of the times for all inputs; its interval comes from the
    differences between epochs. If other programs leave too little undisturbed time, or epochs differ too much, as many
    epochs follow once more; if that does not help, the result is `unsure` and has no speed-up.

    Args:
        models: the models by name, the baseline first.
        inputs: alternating batches of the user's data, or a single one for a hot loop.
        runtime: configuration of ONNX Runtime, for all models or by name.
        seconds: time to spend on timed runs.
        min_rounds: fewest rounds of all epochs together, even if they take longer than `seconds`.
        warmup: untimed runs of a new session; fewer if they take long.
        epochs: number of loads of every model; fewer if loading takes long, but at least 4.
        lengthen: whether epochs follow once more, for as long, where the result would be `unsure`.
        memory: whether to measure memory and cold start too, each model in its own process, for a second or two.
        seed: seed of the order of runs.
        progress: called after each epoch, see `Progress`.
        watch: the clock of runs; None for the best available.
        emulation: returns the evidence of an emulated processor, or None.

    Raises:
        ValueError: there are no models, or no inputs.
        NativeError: ONX403 the processor is emulated, ONX401 a model cannot be run.
        ModelError: ONX304 a model cannot be loaded.
        UsageError: ONX106 the provider is not available.
    """
    if not models:
        raise ValueError("there are no models to measure")
    if not inputs:
        raise ValueError("there are no inputs to measure on")
    refuse_emulation(emulation)
    runtimes = {name: runtime if isinstance(runtime, Runtime) else runtime[name] for name in models}
    on_processor = {provider_name(one.provider) for one in runtimes.values()} == {provider_name(Runtime().provider)}
    timed_by = watch or watch_of(max(full(one).most_threads for one in runtimes.values()), on_processor=on_processor)
    shapes, size = kinds_of(inputs), _batch_size(inputs[0])
    rng = np.random.default_rng(seed)
    done: list[Epoch] = []
    opened: dict[str, Loadable] = {}
    report = progress or (lambda loads, planned: None)

    def load_and_time(planned: int) -> None:
        done.append(
            _epoch(
                list(opened.values()),
                inputs,
                list(runtimes.values()),
                budget_ns=int(seconds * 1e9 / planned),
                min_rounds=-(-min_rounds // planned),
                warmup=warmup,
                rng=rng,
                watch=timed_by,
                start=sum(len(r.inputs) for epoch in done for r in epoch.rounds),
            )
        )

    def work() -> dict[str, Latency]:
        with ExitStack() as stack:
            opened.update((n, stack.enter_context(as_shipped(m, runtimes[n]))) for n, m in models.items())
            return timed()

    def timed() -> dict[str, Latency]:
        planned = max(epochs, 2)
        while len(done) < planned:
            load_and_time(planned)
            planned = min(planned, max(MIN_EPOCHS, int(seconds / max(done[0].loading_s, 1e-9))))
            report(len(done), planned)
        found = summed_up(done, pauses=timed_by.pauses, shapes=shapes, batch_size=size)
        if lengthen and any(one.unsure for one in found):
            for _ in range(planned):
                load_and_time(planned)
                report(len(done), 2 * planned)
            found = summed_up(done, pauses=timed_by.pauses, shapes=shapes, batch_size=size)
        return {
            name: _with_footprint(one, model, inputs[0], runtimes[name]) if memory else one
            for (name, model), one in zip(opened.items(), found, strict=True)
        }

    return interruptible(work)


def refuse_emulation(emulation: Callable[[], str | None] = emulator) -> None:
    """Refuse to time anything on an emulated processor.

    Raises:
        NativeError: ONX403 the processor is emulated.
    """
    why = emulation()
    if why:
        raise NativeError(
            "ONX403",
            "latency is not measured under emulation",
            why=why,
            hint="Run on the device itself; accuracy and fidelity can be measured here.",
        )


def kinds_of(inputs: Sequence[Feeds]) -> list[int]:
    """Return a number for each input; inputs of equal shapes have the same number."""
    seen: dict[tuple[tuple[int, ...], ...], int] = {}
    return [seen.setdefault(tuple(np.shape(array) for array in feeds.values()), len(seen)) for feeds in inputs]


def _with_footprint(latency: Latency, model: Loadable, feeds: Feeds, runtime: Runtime) -> Latency:
    found = footprint_of(model, feeds, runtime)
    if found is None:
        return latency
    return replace(
        latency,
        peak_memory_bytes=found.peak_bytes,
        private_bytes=found.private_bytes,
        mapped_bytes=found.mapped_bytes,
        cold_start_ms=found.cold_start_ms,
    )


def _epoch(
    models: Sequence[Loadable],
    inputs: Sequence[Feeds],
    runtimes: Sequence[Runtime],
    *,
    budget_ns: int,
    min_rounds: int,
    warmup: int,
    rng: np.random.Generator,
    watch: Watch,
    start: int,
) -> Epoch:
    """Load all models, time them, and release them."""
    start_ns = watch.wall()
    # Loading and first runs allocate memory, and the first model gets the better part of it.
    loaded = {int(i): _loaded(models[i], _without_idle_spinning(runtimes[i])) for i in rng.permutation(len(models))}
    sessions = [loaded[i] for i in range(len(models))]
    first_run_ms = np.zeros(len(models))
    for i in rng.permutation(len(models)):
        run_start_ns = watch.wall()
        _run_once(sessions[i], inputs[0])
        first_run_ms[i] = (watch.wall() - run_start_ns) / 1e6
    loading_s = (watch.wall() - start_ns) / 1e9
    with failures_named(inputs[0]):
        runs = [[session.bound(feeds) for feeds in inputs] for session in sessions]
        rounds = race(
            runs, budget_ns=budget_ns, min_rounds=min_rounds, warmup=warmup, rng=rng, watch=watch, start=start
        )
    return Epoch(rounds, tuple(s.load_ms for s in sessions), tuple(map(float, first_run_ms)), loading_s)


def _loaded(model: Loadable, runtime: Runtime) -> Session:
    # A load takes the memory of the file twice for a moment, beside the gaps that the load before has left.
    trim_heap()
    return Session(model, runtime)


def _without_idle_spinning(runtime: Runtime) -> Runtime:
    # Threads of a session that has just run would spin on, and take processor time from the next model's.
    stop = ("session.force_spinning_stop", "1")
    if full(runtime).most_threads == 1 or stop in runtime.options:
        return runtime
    return replace(runtime, options=(*runtime.options, stop))


def _run_once(session: Session, feeds: Feeds) -> None:
    """Run one batch; explain the failure of a model that accepts only single samples despite its declared shapes."""
    try:
        session.run(feeds)
    except NativeError as error:
        size = _batch_size(feeds)
        one = {name: array[:1] if np.ndim(array) and len(array) == size else array for name, array in feeds.items()}
        if size > 1 and _runs(session, one):
            raise NativeError(
                "ONX401",
                f"the model cannot be run at batch size {size}",
                why="it runs at batch size 1",
                hint="Give --batch-size 1, or export the model with a dynamic batch axis.",
            ) from error
        raise


def _runs(session: Session, feeds: Feeds) -> bool:
    try:
        session.run(feeds)
    except NativeError:
        return False
    return True


def _batch_size(feeds: Feeds) -> int:
    first = np.asarray(next(iter(feeds.values()))) if feeds else np.empty(0)
    return len(first) if first.ndim else 1

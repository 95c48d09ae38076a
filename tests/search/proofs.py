"""Finalists, proofs and a search as far as the proof looks at it, made up."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any

from onnxopt.measure.statistics import Interval
from onnxopt.search.acceptance import Acceptance
from onnxopt.search.limits.pressure import Late
from onnxopt.search.limits.reserve import Reserve
from onnxopt.search.trial import Candidate, Proof, Standing, Trial, Verdict

FASTER = Interval(1.8, 2.0, 2.2)
GAINS = MappingProxyType({"a": 0.8, "b": 0.6, "c": 0.4, "early": 0.2})
"""Shares of the time that finalists save."""


def timing(speedup: Interval | None = FASTER, unsure: str = "") -> Any:
    """Return the latency of a candidate."""
    return SimpleNamespace(speedup=speedup, unsure=unsure)


def trial(name: str) -> Trial:
    """Return a candidate that the search measured within every limit."""
    return Trial(Candidate(name, ()), Verdict.WITHIN, "", size_bytes=900)


@dataclass(frozen=True)
class Found:
    """The measurements of a finalist; its proof has this standing, and its share of the risk as what is asked.

    With `accurate`, it is not its accuracy that fails.
    """

    trial: Trial
    standing: Standing = "proven"
    samples: int = 20
    latency: Any = field(default_factory=timing)
    accurate: bool = False
    drop: Any = None
    brief: bool = False

    @property
    def model(self) -> str:
        return f"model {self.trial.candidate.name}"

    def proof(self, bar: Acceptance, share: float) -> Proof:
        nothing: Any = None
        standing = "likely" if self.standing == "proven" and not share else self.standing
        accepted, confidence = standing == "proven", 0.99 if self.standing == "proven" or self.accurate else 0.8
        name = self.trial.candidate.name
        return Proof(
            name, nothing, nothing, nothing, confidence, share, nothing, self.latency, accepted, None, standing
        )


def trials(
    *made: Trial,
    reserve: Reserve | None = None,
    left_s: Callable[[], float] = lambda: 1e9,
    latency: Callable[..., Any] = lambda models, *_, **__: {name: timing() for name in models},
    holdout: Sequence[int] = tuple(range(20)),
    gains: Mapping[str, float] = MappingProxyType({}),
    **changes: Any,
) -> Any:
    """Return the trials of a search, without building or measuring anything."""
    failed = list[tuple[str, str]]()
    events = list[str]()

    def gain(trial: Trial) -> float:
        return gains.get(trial.candidate.name, GAINS.get(trial.candidate.name, 0.5))

    bar = SimpleNamespace(
        finalists=list,
        rank=lambda trial: 1 - gain(trial),
        gain=gain,
        steps_behind=lambda made: Acceptance.steps_behind(bar, made),  # type: ignore[arg-type]
        standing=lambda confidence, share, drop: "proven" if confidence > 0.9 and share else "likely",
    )
    found = SimpleNamespace(
        model="the baseline",
        made=made,
        leader=made[0] if made else None,
        bar=bar,
        reserve=reserve,
        late=Late(),
        latency=latency,
        deadline=SimpleNamespace(left_s=left_s, ending=nullcontext, in_time=lambda make: make()),
        parts=SimpleNamespace(holdout=holdout),
        settings=SimpleNamespace(latency_s=1.0, seed=0, hot=False),
        observer=SimpleNamespace(
            progress=lambda *_: None, secured=lambda model, trial: events.append(f"secured {model}")
        ),
        journal=SimpleNamespace(proved=lambda candidate: events.append(f"proved {candidate.name}")),
        prospect=lambda count, share: SimpleNamespace(possible=True),
        judge_on=lambda samples: "judge",
        fail=lambda trial, error: failed.append((trial.candidate.name, error.code)),
        failed=failed,
        events=events,
    )
    for name, value in changes.items():
        setattr(found, name, value)
    return found

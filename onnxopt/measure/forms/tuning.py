"""The search for settings: axis after axis, each choice beside the best so far, the result beside the default."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnxopt.errors import ModelError, NativeError
from onnxopt.measure.forms.axes import Axis, Bench, Choices
from onnxopt.measure.forms.deployment import Deployment
from onnxopt.measure.forms.figures import Clock, Measured
from onnxopt.measure.statistics import Interval
from onnxopt.options.choices import SessionGoal

DEFAULT = "default"
"""Name of the settings that the search starts from."""
CHOSEN = "chosen"
_SO_FAR = "so far"
UNSURE = "unsure: "
"""Start of the reason of a choice whose figure is unknown."""

Same = Callable[[Deployment], str]
"""Gives the reason why the outputs of a deployment are not those of the default; "" if they are."""


@dataclass(frozen=True)
class SessionTrial:
    """One choice that was tried.

    Attributes:
        axis: the question that it answers, such as `threads`.
        name: the answer.
        value: its figure, in the unit of the goal; None if it was not measured.
        ratio: how many times better than the best settings before it; None if unknown.
        why: the reason why it was not kept; "" if it was.
    """

    axis: str
    name: str
    value: float | None
    ratio: Interval | None
    why: str


@dataclass(frozen=True)
class Tuning:
    """The result of a search.

    Attributes:
        best: the chosen deployment; the default where nothing is significantly better.
        trials: the trials in order.
        measured: the figure of `best` beside the default, measured again; None if `best` is the default.
        reason: the reason why the default is kept; "" if it is not.
    """

    best: Deployment
    trials: tuple[SessionTrial, ...]
    measured: Measured | None
    reason: str


def tuned(
    default: Deployment,
    axes: Mapping[str, Axis],
    bench: Bench,
    *,
    goal: SessionGoal,
    clock: Clock,
    same: Same,
    progress: Callable[[int, int], None] | None = None,
) -> Tuning:
    """Decide one axis after the other; a choice is kept if its whole interval is above 1 and its outputs are the same.

    In the end the settings together are measured beside the default, and dropped if they are not significantly better.

    Args:
        default: the deployment that the search starts from.
        axes: the axes by name, in order.
        bench: conditions of the choices.
        goal: figure to improve.
        clock: measures it.
        same: compares outputs.
        progress: called with the number of decided axes and their total.
    """
    current, trials = default, list[SessionTrial]()
    for done, (name, axis) in enumerate(axes.items(), 1):
        made, refused = _made(name, axis(current, bench), same)
        trials += refused
        if made:
            found = clock(goal, {_SO_FAR: current, **made})
            best = _best({choice: found[choice] for choice in made})
            trials += [_trial(name, choice, found[choice], kept=choice == best) for choice in made]
            current = current if best is None else made[best]
        if progress is not None:
            progress(done, len(axes) + 1)
    measured = None if current == default else clock(goal, {DEFAULT: default, CHOSEN: current})[CHOSEN]
    if progress is not None:
        progress(len(axes) + 1, len(axes) + 1)
    if measured is None:
        return Tuning(default, tuple(trials), None, "no choice is significantly better")
    if not _surely_better(measured):
        return Tuning(
            default, tuple(trials), None, f"the choices together are not significantly better: {_why(measured)}"
        )
    return Tuning(current, tuple(trials), measured, "")


def _trial(axis: str, name: str, one: Measured, *, kept: bool) -> SessionTrial:
    return SessionTrial(axis, name, one.value, one.ratio, "" if kept else _why(one))


def _made(axis: str, choices: Choices, same: Same) -> tuple[dict[str, Deployment], list[SessionTrial]]:
    """Return the deployments that load and have the same outputs, and the others with the reason."""
    made, refused = dict[str, Deployment](), list[SessionTrial]()
    for name, make in choices.items():
        try:
            deployment = make()
            why = same(deployment)
        except (ModelError, NativeError) as error:
            why = error.why or error.what
        if why:
            refused.append(SessionTrial(axis, name, None, None, why))
        else:
            made[name] = deployment
    return made, refused


def _best(found: Mapping[str, Measured]) -> str | None:
    better = {name: one.ratio.low for name, one in found.items() if one.ratio is not None and _surely_better(one)}
    return max(better, key=better.__getitem__) if better else None


def _surely_better(one: Measured) -> bool:
    return not one.unsure and one.ratio is not None and one.ratio.low > 1


def _why(one: Measured) -> str:
    if one.unsure or one.ratio is None:
        return UNSURE + one.unsure
    if one.ratio.low > 1:
        return "another is better still"
    return "worse" if one.ratio.high < 1 else "not significantly better"

"""The result of a search for settings, and its display."""

from dataclasses import asdict, dataclass
from pathlib import Path

from onnxopt.document import units
from onnxopt.document.blocks import Block, Column, Displayed, Document, Facts, Table, Text
from onnxopt.measure.forms.session_file import FormName, SessionFile, SessionGain, SessionSettings
from onnxopt.measure.forms.tuning import UNSURE, SessionTrial
from onnxopt.measure.statistics import Interval

_COLUMNS = (Column("question"), Column("choice"), Column("figure", number=True), Column("better", number=True))
_FORMS = {"onnx": "as it was", "prepacked": "optimized, weights packed", "ort": "ONNX Runtime's format"}
_WORDS = {"latency": "time of a run", "cold-start": "load and first run", "memory": "private memory"}
_WORDS |= {"throughput": "samples per second"}


@dataclass(frozen=True)
class TunedSession(Displayed):
    """Settings of a session that were searched by measurement.

    Attributes:
        file: session.json.
        model: the file that it loads.
        content: the content of `file`.
        trials: every choice, in order.
        reason: the reason why the default settings were kept; "" if they were not.
        change: largest relative difference of outputs from those of the default; 0 is bit for bit.
    """

    file: Path
    model: Path
    content: SessionFile
    trials: tuple[SessionTrial, ...]
    reason: str
    change: float

    @property
    def settings(self) -> SessionSettings:
        """The settings of the session."""
        return self.content.settings

    @property
    def form(self) -> FormName:
        """The form of the file."""
        return self.content.form

    @property
    def gain(self) -> SessionGain | None:
        """The figure that the settings were chosen by; None where the default was kept."""
        return self.content.gain

    @property
    def document(self) -> Document:
        """The choices, the settings, and the code that loads the model with them."""
        return _document(self)


def _document(done: TunedSession) -> Document:
    goal, unit = done.content.goal, _WORDS[done.content.goal]
    rows = tuple((one.axis, one.name, _figure(one.value, goal), _kept(one)) for one in done.trials)
    blocks: tuple[Block, ...] = (
        Table(
            (*_COLUMNS, Column("result")),
            tuple((*row, _result(one)) for row, one in zip(rows, done.trials, strict=True)),
        ),
        Facts((("goal", unit), ("file", f"{done.model.name} ({_FORMS[done.form]})"), *_settings(done.settings))),
        Text(tuple(_said(done))),
        *(Text((f"{language}:", *lines)) for language, lines in done.content.code.items()),
    )
    data = {
        **done.content.model_dump(mode="json"),
        "session": str(done.file),
        "trials": [asdict(one) for one in done.trials],
        "reason": done.reason,
        "change": done.change,
    }
    return Document(blocks, data)


def _settings(settings: SessionSettings) -> list[tuple[str, str]]:
    values = settings.model_dump()
    return [*((name, str(value)) for name, value in values.items() if name != "entries"), *values["entries"].items()]


def _said(done: TunedSession) -> list[str]:
    lines = [f"The default settings are kept: {done.reason}." if done.reason else _gained(done)]
    unsure = [one.why for one in done.trials if one.why.startswith(UNSURE)]
    if unsure:
        choices = units.many(len(unsure), "choice")
        lines.append(f"The clock is unsure of {choices}, the first because of this: {unsure[0].removeprefix(UNSURE)}.")
    latency = done.content.latency
    if latency is not None:
        ratio = _interval(latency)
        words = f"unsure: {latency.unsure}" if ratio is None else units.faster(ratio.low, ratio.value, ratio.high)
        lines.append(f"A run with them takes {units.significant(latency.value)} ms: {words}.")
    lines.append("Outputs are equal in bits." if not done.change else f"Outputs differ by {done.change:.1g} at most.")
    if done.content.made_for is not None:
        made = done.content.made_for
        lines.append(f"{done.model.name} is for {made.architecture} with the instruction sets in session.json only.")
    return [*lines, f"Written: {done.file}"]


def _gained(done: TunedSession) -> str:
    ratio = None if done.gain is None else _interval(done.gain)
    if done.gain is None or ratio is None:
        return ""
    figure, words = _figure(done.gain.value, done.content.goal), _WORDS[done.content.goal].capitalize()
    better = f"{units.times(ratio.value)} better than by default {units.times_interval(ratio)}"
    return f"{words}: {figure}, {better}."


def _interval(gain: SessionGain) -> Interval | None:
    if gain.low is None or gain.ratio is None or gain.high is None:
        return None
    return Interval(gain.low, gain.ratio, gain.high)


def _figure(value: float | None, goal: str) -> str:
    if value is None:
        return "-"
    if goal == "memory":
        return units.size(value)
    return f"{units.significant(value)}{'' if goal == 'throughput' else ' ms'}"


def _kept(one: SessionTrial) -> str:
    return "-" if one.ratio is None else f"{units.times(one.ratio.value)}\n{units.times_interval(one.ratio)}"


def _result(one: SessionTrial) -> str:
    return (UNSURE.rstrip(": ") if one.why.startswith(UNSURE) else one.why) or "kept"

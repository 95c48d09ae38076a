"""Validity and safety of model files, for `onnxopt check`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.document.blocks import Column, Displayed, Document, Table, Text
from onnxopt.errors import ModelError, UsageError, nearest
from onnxopt.graph.lint import RULES, Finding, Level, lint
from onnxopt.measure.runtime.first_load import survive_loading
from onnxopt.measure.runtime.session import MAPPED, Runtime, Session
from onnxopt.model_file import Given, as_graph, given
from onnxopt.model_file.given import Several, by_name
from onnxopt.quantization.diagnosis.simulation import saturating_here
from onnxopt.repairs.order import REPAIRS
from onnxopt.target import detect

_OF_ERRORS = {"ONX301": "CHK101", "ONX302": "CHK102", "ONX303": "CHK103", "ONX305": "CHK104", "ONX304": "CHK105"}
_QUANTIZED = "CHK306"
_NAMED = 3


@dataclass(frozen=True)
class CheckResult(Displayed):
    """The findings in models.

    Attributes:
        findings: the findings by model, the worst first; an empty tuple for a model without findings.
        passed: whether no model has an error (with `strict`: nor a warning).
        document: the findings as a table.
    """

    findings: Mapping[str, tuple[Finding, ...]]
    passed: bool
    document: Document = field(repr=False)


def findings_of(model: Given) -> tuple[Finding, ...]:
    """Return the findings in one model, the worst first; an unreadable file has one finding.

    Raises:
        FileError: ONX501 it does not exist, ONX505 it cannot be read.
    """
    try:
        source = given(model)
        graph = as_graph(source)
    except ModelError as error:
        return (_of_error(error),)
    found = [*lint(graph)]
    known = {finding.code for finding in found}
    found += [finding for finding in mendable(graph) if finding.code not in known]
    if _QUANTIZED in known:
        found += _saturating(graph)
    try:
        model_file.check(graph)
    except ModelError as error:
        found.append(_of_error(error))
    try:
        if not isinstance(source, ir.Model):
            survive_loading(source)
            model_file.refuse_changed_data(source)
        # By its path, as in a deployment; not optimized, because the check is for loading alone.
        Session(source, Runtime(optimization="none") if model_file.fits_protobuf(graph) else MAPPED)
    except ModelError as error:
        found.append(_of_error(error))
    order = list(Level)
    return tuple(sorted(found, key=lambda finding: (order.index(finding.level), finding.code)))


def check(models: Several, *, strict: bool = False, ignore: Sequence[str] = ()) -> CheckResult:
    """Check that models are valid and safe to ship.

    Args:
        models: one, several, or several by name.
        strict: whether warnings fail too.
        ignore: codes of findings to ignore, such as `CHK203`.

    Raises:
        UsageError: ONX101 a code in `ignore` is unknown.
        FileError: ONX501 a file does not exist, ONX505 it cannot be read.
    """
    for code in ignore:
        if code not in RULES:
            raise UsageError("ONX101", "no finding has this code", where=code, hint=nearest(code, RULES))
    found = {name: tuple(f for f in findings_of(m) if f.code not in ignore) for name, m in by_name(models).items()}
    levels = [finding.level for findings in found.values() for finding in findings]
    errors, warnings = levels.count(Level.ERROR), levels.count(Level.WARNING)
    passed = not errors and not (strict and warnings)
    return CheckResult(found, passed, _document(found, errors, warnings, passed))


def _document(found: Mapping[str, tuple[Finding, ...]], errors: int, warnings: int, passed: bool) -> Document:
    facts = sum(finding.level is Level.FACT for findings in found.values() for finding in findings)
    columns = (Column("model"), Column("code"), Column("level"), Column("finding"))
    rows = tuple((p, f.code, f.level.value, _sentence(f)) for p, findings in found.items() for f in findings)
    verdict = f"{len(found)} {_plural('model', len(found))}: {errors} {_plural('error', errors)}, {warnings} " + (
        f"{_plural('warning', warnings)}, {facts} {_plural('fact', facts)}."
    )
    data = {
        "passed": passed,
        "errors": errors,
        "warnings": warnings,
        "models": [{"path": p, "findings": list(map(_data, findings))} for p, findings in found.items()],
    }
    return Document((*((Table(columns, rows),) if rows else ()), Text((verdict,))), data)


def mendable(model: ir.Model) -> Iterator[Finding]:
    """Yield the faults that `repair` mends on this machine."""
    try:
        for repair in REPAIRS:
            faults = repair.find(model, detect())
            if faults.sites:
                yield Finding(repair.code, tuple(dict.fromkeys(faults.where)))
    except ModelError:
        return  # the runtime does not load it, which is a separate finding


def _saturating(model: ir.Model) -> Iterator[Finding]:
    """Yield the layers of a quantized model that can saturate on this machine."""
    layers = saturating_here(model, Runtime())
    if layers:
        yield Finding("CHK307", layers)


def _of_error(error: ModelError) -> Finding:
    # A name that the error states is that of a file, which the row states already, or that of external data.
    code = _OF_ERRORS[error.code]
    parts = [part for part in (error.what, error.why) if part and part != RULES[code][1]]
    return Finding(code, detail=": ".join(parts))


def _data(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code,
        "level": finding.level.value,
        "meaning": finding.meaning,
        "where": list(finding.where),
        "detail": finding.detail,
    }


def _sentence(finding: Finding) -> str:
    named = ", ".join(finding.where[:_NAMED])
    more = f" and {len(finding.where) - _NAMED} more" if len(finding.where) > _NAMED else ""
    about = ". ".join(part for part in (f"{named}{more}", finding.detail) if part)
    return f"{finding.meaning}: {about}" if about else finding.meaning


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"

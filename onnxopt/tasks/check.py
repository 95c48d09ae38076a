"""Validity and safety of model files, as `onnxopt check` shows them."""

from collections.abc import Sequence
from pathlib import Path

from onnxopt import model_file
from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.errors import ModelError, UsageError, nearest
from onnxopt.graph.lint import RULES, Finding, Level, lint
from onnxopt.measure.runtime.first_load import survive_loading
from onnxopt.measure.runtime.session import Runtime, Session

_OF_ERRORS = {"ONX301": "CHK101", "ONX302": "CHK102", "ONX303": "CHK103", "ONX305": "CHK104", "ONX304": "CHK105"}
_NAMED = 3


def findings_of(path: Path) -> tuple[Finding, ...]:
    """Return everything found in one file, the worst first; a file that cannot be read has one finding.

    Raises:
        FileError: ONX501 it does not exist, ONX505 it cannot be read.
    """
    try:
        model = model_file.load(path)
    except ModelError as error:
        return (_of_error(error),)
    found = list(lint(model))
    try:
        model_file.check(model)
    except ModelError as error:
        found.append(_of_error(error))
    try:
        survive_loading(path)
        # By its path, as whoever deploys it will; not optimized, for a graph that loads is all that is asked.
        Session(path, Runtime(optimization="none"))
    except ModelError as error:
        found.append(_of_error(error))
    order = list(Level)
    return tuple(sorted(found, key=lambda finding: (order.index(finding.level), finding.code)))


def check_models(paths: Sequence[Path], *, strict: bool = False, ignored: Sequence[str] = ()) -> tuple[Document, bool]:
    """Return the findings in `paths`, and whether no model has an error (with `strict`: nor a warning).

    Raises:
        UsageError: ONX101 there is no code in `ignored`.
        FileError: like `findings_of`.
    """
    for code in ignored:
        if code not in RULES:
            raise UsageError("ONX101", "no finding has this code", where=code, hint=nearest(code, RULES))
    found = {path: tuple(f for f in findings_of(path) if f.code not in ignored) for path in paths}
    levels = [finding.level for findings in found.values() for finding in findings]
    errors, warnings = levels.count(Level.ERROR), levels.count(Level.WARNING)
    passed = not errors and not (strict and warnings)
    columns = (Column("model"), Column("code"), Column("level"), Column("what was found"))
    rows = tuple((str(p), f.code, f.level.value, _sentence(f)) for p, findings in found.items() for f in findings)
    verdict = f"{len(found)} {_plural('model', len(found))}: {errors} {_plural('error', errors)}, {warnings} " + (
        f"{_plural('warning', warnings)}, {levels.count(Level.FACT)} {_plural('fact', levels.count(Level.FACT))}."
    )
    data = {
        "passed": passed,
        "errors": errors,
        "warnings": warnings,
        "models": [{"path": str(p), "findings": list(map(_data, findings))} for p, findings in found.items()],
    }
    return Document((*((Table(columns, rows),) if rows else ()), Text((verdict,))), data), passed


def _of_error(error: ModelError) -> Finding:
    # A name that the error states is that of a file, which the row states already, or that of external data.
    return Finding(_OF_ERRORS[error.code], detail=f"{error.what}: {error.why}" if error.why else error.what)


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

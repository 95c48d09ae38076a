"""The journal: measurements of a search, line by line on disk, for resuming."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.catalog import format_passes
from onnxopt.errors import FileError, UsageError, first_line
from onnxopt.files import parse_json, read_text
from onnxopt.measure.accuracy import Evaluation
from onnxopt.search.journal.model_store import ModelStore
from onnxopt.search.journal.trial_json import is_whole, restored, stored
from onnxopt.search.trial import Candidate, Trial, Verdict

T = TypeVar("T")

MOST_DEATHS = 2
"""Number of times that a candidate may end the whole process before it is left out."""
MODELS = "trials"
"""Folder of models beside the journal."""
_KEPT = (Verdict.WITHIN, Verdict.UNSURE)
"""Trials whose models are needed again: for the proof, and for another measurement of the time."""


class Journal:
    """Trials of one search by candidate, and the models that are needed again; without a path nothing is stored.

    Args:
        path: a file of JSON lines; an incomplete last line is ignored. The models are in a folder beside it.
        about: the inputs of the search by name: model, data, settings, versions.
        unset: values of inputs that a journal lacks, because it was written before the option existed.
        resume: whether to read the entries of the file; else it starts anew.

    Attributes:
        resumed: whether entries were read.

    Raises:
        FileError: ONX505 the file cannot be read.
        UsageError: ONX110 there is nothing to resume, or the file belongs to another search.
    """

    def __init__(
        self,
        path: Path | None = None,
        about: Mapping[str, str] | None = None,
        *,
        unset: Mapping[str, str] | None = None,
        resume: bool = False,
    ) -> None:
        self._path, self._about, self._unset = path, dict(about or {}), dict(unset or {})
        self._trials = dict[str, dict[str, Any]]()
        self._notes = dict[str, Any]()
        self._deaths = Counter[str]()
        self._stored = set[str]()
        self._models = None if path is None else ModelStore(path.with_name(MODELS))
        self.resumed = False
        if resume and path is not None:
            self._take_over(path)

    def begin(self) -> None:
        """Create the file, unless it is resumed.

        Raises:
            FileError: ONX503 the file cannot be written.
        """
        if self._path is not None and not self.resumed:
            self._written_before(self._path)
            self.drop_models()
            self._path.unlink(missing_ok=True)
            self._write({"kind": "search", "about": self._about})

    def trial(self, candidate: Candidate, baseline: Evaluation) -> Trial | None:
        """Return the recorded trial of a candidate, without its drop; None without a record.

        Args:
            candidate: the candidate, identified by its name and passes.
            baseline: the baseline, measured in the same way.
        """
        found = self._trials.get(_key(candidate))
        # A damaged line counts as not measured.
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            if found is not None and is_whole(found):
                return restored(candidate, found, baseline.metric)
        if self._deaths[_key(candidate)] >= MOST_DEATHS:
            why = f"it ended the whole process {self._deaths[_key(candidate)]} times, so it is left out"
            return Trial(candidate, Verdict.FAILED, why)
        return None

    def digest(self, candidate: Candidate) -> str:
        """Return the checksum of the candidate's model, "" if unknown."""
        return str(self._trials.get(_key(candidate), {}).get("digest", ""))

    def model(self, candidate: Candidate) -> ir.Model | None:
        """Return the model of a candidate within budget, or whose time is unsure; None if it is not stored."""
        digest = str(self._trials.get(_key(candidate), {}).get("model", ""))
        return self._models.get(digest) if self._models is not None and digest else None

    def started(self, candidate: Candidate) -> None:
        """Record the start of a candidate."""
        self._write({"kind": "started", "candidate": _key(candidate)})

    def finished(self, trial: Trial, digest: str, model: ir.Model | None) -> None:
        """Record the measurements, and the model if it is within budget or its time is unsure.

        Args:
            trial: the trial, stored without its drop.
            digest: checksum of the built model, "" if unknown.
            model: the measured model.
        """
        if self._models is None:
            return
        kept = self._models.put(model) if model is not None and trial.verdict in _KEPT else ""
        made = {
            "kind": "trial",
            "candidate": _key(trial.candidate),
            "digest": digest,
            "model": kept,
            **stored(trial),
        }
        self._trials[_key(trial.candidate)] = made
        self._stored.add(kept)
        self._write(made)

    def drop_models(self) -> None:
        """Remove the models of the journal, after which a search cannot continue."""
        if self._models is not None:
            self._models.clear(self._stored)
            self._stored.clear()

    def _written_before(self, path: Path) -> None:
        """Read which models an earlier search in the folder wrote, so that no other file is removed."""
        with suppress(OSError, UnicodeDecodeError):
            for event in filter(None, map(_event, read_text(path).splitlines())):
                self._stored.add(str(event.get("model") or ""))

    def proved(self, candidate: Candidate) -> None:
        """Record that best.onnx holds a proved candidate from now on."""
        self._write({"kind": "proved", "candidate": _key(candidate)})

    def interrupted(self) -> None:
        """Record that the user ended the search, so that no candidate counts as the cause."""
        self._write({"kind": "interrupted"})

    def recall(self, name: str, make: Callable[[], object], read: Callable[[object], T]) -> T:
        """Return the result of `make`, recorded under this name; a resumed search reads the record instead.

        Args:
            name: name of the decision, unique in a search.
            make: returns JSON-ready data.
            read: converts the data to the result; raises ValueError for a damaged line, which counts as no record.
        """
        if name in self._notes:
            with suppress(ValueError):
                return read(self._notes[name])
        self._notes[name] = make()
        self._write({"kind": "note", "name": name, "value": self._notes[name]})
        return read(self._notes[name])

    def _write(self, event: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**event, "time": round(time.time(), 2)}) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            where, why = str(self._path), error.strerror or ""
            raise FileError("ONX503", "cannot write the output", where=where, why=why) from error

    def _take_over(self, path: Path) -> None:
        if not path.exists():
            raise UsageError(
                "ONX110",
                "there is no search to resume",
                where=str(path.parent),
                hint="Name the folder of the earlier run with --out, or leave --resume out.",
            )
        try:
            text = read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or first_line(error)
            raise FileError("ONX505", "the journal cannot be read", where=str(path), why=why) from error
        events = list(filter(None, map(_event, text.splitlines())))
        about = events[0].get("about") if events else None
        about = {**self._unset, **(about if isinstance(about, dict) else {})}
        own = {**self._unset, **self._about}
        other = sorted(key for key in {*about, *own} if about.get(key) != own.get(key))
        if other:
            raise UsageError(
                "ONX110",
                "the folder holds a search with other options",
                where=str(path.parent),
                why=f"{', '.join(other)} changed",
                hint="Repeat the options of that search, or choose another --out.",
            )
        if not text.endswith("\n"):  # an incomplete line: the next one must not be appended to it
            model_file.atomic_write_text(path, "".join(json.dumps(event) + "\n" for event in events), overwrite=True)
        self._replay(events)
        self.resumed = True

    def _replay(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Read trials and notes; a candidate with a start but no end has ended the process."""
        begun = ""
        for event in [*events, {"kind": "end"}]:
            kind, key = event.get("kind"), str(event.get("candidate", ""))
            if kind == "started":
                self._deaths[begun] += bool(begun)
                begun = key
            elif kind == "trial":
                self._trials[key] = dict(event)
                self._stored.add(str(event.get("model") or ""))
                begun = ""
            elif kind == "note":
                self._notes[str(event.get("name"))] = event.get("value")
            elif kind == "interrupted":
                begun = ""
        self._deaths[begun] += bool(begun)


def _key(candidate: Candidate) -> str:
    return f"{candidate.name}: {format_passes(candidate.passes)}"


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = parse_json(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None

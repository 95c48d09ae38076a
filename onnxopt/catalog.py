"""Every pass by name, and passes as text: `quantize-static{method=entropy,keep=[conv1,fc]},simplify`.

Other packages add passes by an entry point of the group `onnxopt.passes`.
"""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pydantic import TypeAdapter, ValidationError

import onnxopt.passes
from onnxopt.errors import UsageError, first_line, nearest
from onnxopt.pipeline import Pass

PLUGINS = "onnxopt.passes"
"""Entry-point group of passes in other packages."""


@dataclass(frozen=True)
class Plugins:
    """Passes of other packages.

    Attributes:
        passes: the passes by name.
        refused: entry points that cannot be used, with the reason.
    """

    passes: Mapping[str, type[Pass]]
    refused: Mapping[str, str]


def available_passes() -> Mapping[str, type[Pass]]:
    """Return every pass by name: one per module of `onnxopt/passes`, and those that installed packages add."""
    return dict(sorted({**plugins().passes, **_built_in()}.items()))


@cache
def plugins() -> Plugins:
    """Return the passes that installed packages add; one that cannot be used does no harm to the others."""
    found, refused = dict[str, type[Pass]](), dict[str, str]()
    for entry in entry_points(group=PLUGINS):
        try:
            kind = entry.load()
        except Exception as error:  # whatever the other package raises
            refused[entry.name] = f"{type(error).__name__}: {first_line(error)}"
            continue
        why = _why_no_pass(entry.name, kind, {**_built_in(), **found})
        if why:
            refused[entry.name] = why
        else:
            found[entry.name] = kind
    return Plugins(found, refused)


def _why_no_pass(name: str, kind: object, taken: Mapping[str, object]) -> str:
    """Return the objection to an entry point; "" for nothing."""
    if not (inspect.isclass(kind) and issubclass(kind, Pass) and is_dataclass(kind) and not inspect.isabstract(kind)):
        return "it is not a dataclass that derives from onnxopt.Pass and has an apply method"
    if getattr(kind, "name", None) != name:
        return f"its pass is called {getattr(kind, 'name', None)!r}, which must be the name of the entry point"
    return "another pass has this name" if name in taken else ""


@cache
def _built_in() -> Mapping[str, type[Pass]]:
    found: dict[str, type[Pass]] = {}
    for info in pkgutil.walk_packages(onnxopt.passes.__path__, "onnxopt.passes."):
        module = importlib.import_module(info.name)
        for item in vars(module).values():
            own = inspect.isclass(item) and issubclass(item, Pass) and item.__module__ == module.__name__
            if own and "name" in vars(item):  # a base of several passes has none
                found[item.name] = item
    return dict(sorted(found.items()))


def make_pass(name: str, options: Mapping[str, Any]) -> Pass:
    """Return the pass `name` with `options` checked and converted to the types of its fields.

    Raises:
        UsageError: ONX103 no such pass, ONX102 no such option, ONX101 an invalid value.
    """
    known = available_passes()
    if name not in known:
        refused = plugins().refused.get(name, "")
        hint = "Repair or remove the package that adds it." if refused else nearest(name, known)
        raise UsageError("ONX103", "unknown pass", where=name, why=refused, hint=hint)
    names = [f.name for f in fields(known[name])]
    for key in options:
        if key not in names:
            hint = nearest(key, names) if names else "It has no options."
            raise UsageError("ONX102", f"unknown option of pass {name}", where=key, hint=hint)
    return typed(known[name], options)


def typed(kind: type[Pass], options: Mapping[str, Any]) -> Pass:
    """Return a pass of `kind` with `options` checked and converted to the types of its fields.

    Raises:
        UsageError: ONX101 a value is invalid.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            "ONX101",
            f"an option of pass {kind.name} has a wrong value",
            where=".".join(map(str, first["loc"])),
            why=f"{first['input']!r}: {first['msg']}",
            hint="See `onnxopt passes`.",
        ) from error


def parse(text: str) -> tuple[Pass, ...]:
    """Return the passes of a text such as `a{x=1,y=[p,q]},b`.

    Args:
        text: names of passes in order, each with the options that differ from their defaults.

    Raises:
        UsageError: ONX104 it cannot be read; and as `make_pass`.
    """
    reader = _TextReader(text)
    passes = [reader.one_pass()]
    while reader.eat(","):
        passes.append(reader.one_pass())
    reader.end()
    return tuple(passes)


def format_pass(spec: Pass) -> str:
    """Return the text that `parse` reads back to an equal pass; options at their default are left out."""
    chosen = options_of(spec)
    inner = ",".join(f"{key}={_format_value(value)}" for key, value in chosen.items())
    return f"{spec.name}{{{inner}}}" if inner else spec.name


def format_passes(passes: tuple[Pass, ...]) -> str:
    """Return the text of a whole pipeline, which `parse` reads back.

    Args:
        passes: the passes in order.
    """
    return ",".join(map(format_pass, passes))


def options_of(spec: Pass) -> dict[str, Any]:
    """Return the options of `spec` that differ from their defaults, as JSON-ready values."""
    chosen = {f.name: getattr(spec, f.name) for f in fields(spec) if getattr(spec, f.name) != f.default}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()}


_BARE = re.compile(r"[^\s,{}\[\]=\"]+")


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_format_value, value))}]"
    if isinstance(value, str):
        plain = _BARE.fullmatch(value) and value == _scalar(value)
        return value if plain else json.dumps(value)
    return json.dumps(value)


def _scalar(word: str) -> Any:
    if word in ("true", "false", "null"):
        return json.loads(word)
    try:
        return int(word)
    except ValueError:
        pass
    try:
        return float(word)
    except ValueError:
        return word


class _TextReader:
    """A reader of the grammar above, one character of look-ahead."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def eat(self, mark: str) -> bool:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def need(self, mark: str) -> None:
        if not self.eat(mark):
            self.fail(f"{mark!r} expected")

    def fail(self, why: str) -> None:
        raise UsageError(
            "ONX104",
            "the passes cannot be read",
            where=f"{self.text!r}, character {self.at + 1}",
            why=why,
            hint='Write them as "a{x=1,y=[p,q]},b".',
        )

    def end(self) -> None:
        if not self.eat("") or self.at < len(self.text):
            self.fail("nothing more expected here")

    def word(self) -> str:
        self.eat("")
        match = _BARE.match(self.text, self.at)
        if match is None:
            self.fail("a name or a value expected")
        assert match is not None
        self.at = match.end()
        return match.group()

    def one_pass(self) -> Pass:
        name, options = self.word(), dict[str, Any]()
        if self.eat("{") and not self.eat("}"):
            while True:
                key = self.word()
                if key in options:
                    self.fail(f"{key!r} is given twice")
                self.need("=")
                options[key] = self.value()
                if self.eat("}"):
                    break
                self.need(",")
        return make_pass(name, options)

    def value(self) -> Any:
        if self.eat("["):
            items: list[Any] = []
            while not self.eat("]"):
                if items:
                    self.need(",")
                items.append(self.scalar())
            return items
        return self.scalar()

    def scalar(self) -> Any:
        if self.eat('"'):
            self.at -= 1
            try:
                text, length = json.JSONDecoder().raw_decode(self.text[self.at :])
            except json.JSONDecodeError:
                self.fail("the quoted text does not end")
            self.at += length
            return text
        return _scalar(self.word())

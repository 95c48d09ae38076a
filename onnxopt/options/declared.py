"""Options declared by the fields of a dataclass: type, default, bounds and description."""

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typing_extensions import Doc


@dataclass(frozen=True)
class Word:
    """The form of an option on a command line and in TOML, where it is not the field's name with dashes.

    Attributes:
        name: without dashes in front; "" for the field's own.
        metavar: placeholder of the value in the help; "" for the type.
        read: the function from text to the value, or to one item of a repeated option; None reads it by its type. It
            raises ValueError for numbers that cannot be read.
        repeated: whether each item of the tuple is given by a separate option.
        default_shown: whether the help ends with the default.
        typed: whether a command line has this option.
    """

    name: str = ""
    metavar: str = ""
    read: Callable[[str], Any] | None = None
    repeated: bool = False
    default_shown: bool = True
    typed: bool = True


@dataclass(frozen=True)
class Option:
    """One option as declared.

    Attributes:
        field: its name in Python and JSON.
        word: its name on a command line and in TOML, without dashes in front.
        kind: type, without annotations.
        default: its default.
        about: its description.
        written: its form on a command line, besides the name.
        notes: annotations of the type, such as bounds.
    """

    field: str
    word: str
    kind: Any
    default: Any
    about: str
    written: Word
    notes: tuple[Any, ...]


def declared_options(kind: Any) -> tuple[Option, ...]:
    """Return the options that a dataclass declares, in order; one without a default has none that JSON can hold."""
    hints, docs = get_type_hints(kind, include_extras=True), field_docs(kind)
    return tuple(_option(f.name, hints[f.name], _default(f), docs) for f in fields(kind))


def about(kind: Any, field: str) -> str:
    """Return the description of one option."""
    return next(option.about for option in declared_options(kind) if option.field == field)


def _option(name: str, hint: Any, default: Any, docs: dict[str, str]) -> Option:
    plain, notes = (get_args(hint)[0], hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())
    word = next((note for note in notes if isinstance(note, Word)), Word())
    about = next((note.documentation for note in notes if isinstance(note, Doc)), _sentence(docs.get(name, "")))
    return Option(name, word.name or name.replace("_", "-"), plain, default, about, word, notes)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def field_docs(kind: type) -> dict[str, str]:
    """Return the description of each field of a dataclass: from its docstring, or that of the base that declares it."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        docs |= attribute_docs(inspect.cleandoc(base.__doc__ or ""))
    return docs


def attribute_docs(docstring: str) -> dict[str, str]:
    """Return the one-line texts of the section `Attributes:` or `Args:` of a Google-style docstring."""
    docs: dict[str, str] = {}
    inside, current = False, ""
    for line in docstring.splitlines():
        if re.fullmatch(r"(Attributes|Args):", line):
            inside = True
        elif inside and (match := re.match(r"    (\w+): (.*)", line)):
            current = match[1]
            docs[current] = match[2]
        elif inside and line.startswith("        ") and current:
            docs[current] += " " + line.strip()
        elif line and not line.startswith(" "):
            inside = False
    return docs

"""Every pass with its options, read from the passes themselves."""

import inspect
from dataclasses import MISSING, fields
from typing import Any

from onnxopt.catalog import available_passes, plugins
from onnxopt.document.blocks import Document, Facts, Text
from onnxopt.errors import UsageError, nearest
from onnxopt.options.declared import field_docs
from onnxopt.pipeline import Pass


def passes_document(name: str | None = None) -> Document:
    """Return the effects, requirements and options of every pass, or of one.

    Raises:
        UsageError: ONX103 unknown pass.
    """
    known = available_passes()
    if name is not None and name not in known:
        raise UsageError("ONX103", "unknown pass", where=name, hint=nearest(name, known))
    chosen = [known[key] for key in known if name in (None, key)]
    blocks = tuple(block for kind in chosen for block in _blocks(kind))
    refused = plugins().refused if name is None else {}
    notes = tuple(Text((f"The pass {key} of another package cannot be used: {why}.",)) for key, why in refused.items())
    return Document((*blocks, *notes), {"passes": [_data(kind) for kind in chosen], "refused": dict(refused)})


def _blocks(kind: type[Pass]) -> tuple[Text | Facts, ...]:
    needs = f"; needs {', '.join(_needs(kind))}" if kind.needs else ""
    head = Text((f"{kind.name} ({kind.effect.value}{needs}). {_summary(kind)}",))
    pairs = tuple((f"  {o['name']}={o['default_text']}", f"{o['type']}. {_capital(o['doc'])}") for o in _options(kind))
    return (head, Facts(pairs)) if pairs else (head,)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _data(kind: type[Pass]) -> dict[str, Any]:
    options = [{key: o[key] for key in ("name", "type", "default", "doc")} for o in _options(kind)]
    return {
        "name": kind.name,
        "effect": kind.effect.value,
        "needs": _needs(kind),
        "summary": _summary(kind),
        "options": options,
    }


def _needs(kind: type[Pass]) -> list[str]:
    return sorted(need.value for need in kind.needs)


def _summary(kind: type[Pass]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")


def _options(kind: type[Pass]) -> list[dict[str, Any]]:
    docs = field_docs(kind)
    options = []
    for field in fields(kind):
        default = None if field.default is MISSING else field.default
        options.append(
            {
                "name": field.name,
                "type": type_text(field.type),
                "default": list(default) if isinstance(default, tuple) else default,
                "default_text": _default_text(default),
                "doc": docs.get(field.name, ""),
            }
        )
    return options


def _default_text(default: Any) -> str:
    if isinstance(default, tuple):
        return f"[{','.join(map(str, default))}]"
    return str(default).lower() if isinstance(default, bool | None) else str(default)


def type_text(annotation: Any) -> str:
    """Return the choices of a type, or its name."""
    if hasattr(annotation, "__metadata__"):
        return type_text(annotation.__origin__)
    arguments = [a for a in getattr(annotation, "__args__", ()) if a is not Ellipsis]
    if str(annotation).startswith("typing.Literal"):
        return "|".join(map(str, arguments))
    if getattr(annotation, "__origin__", None) is tuple:
        return f"list of {type_text(arguments[0])}"
    if annotation is str:
        return "text"
    return getattr(annotation, "__name__", str(annotation))

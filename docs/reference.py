"""The reference pages, made from the code: passes, commands, Python names. Run by docs/conf.py."""

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import typer.main

import onnxopt
from onnxopt import catalog
from onnxopt.cli.app import app
from onnxopt.pipeline import Need, Pass

GUIDES: Mapping[str, tuple[str, ...]] = {
    "pruning": ("prune-", "narrow-student"),
    "low-rank": ("factorize", "depthwise-separable", "share-weights", "store-float16"),
    "attention": ("fuse-attention", "linearize-attention"),
    "quantization": ("quantize-", "equalize", "absorb-biases", "smooth-quant"),
    "qat": ("qat",),
    "recovery": ("distill", "finetune", "prune-gradually", "reconstruct-blocks"),
}
"""Page that explains a pass with figures, by the start of its name; the longest start counts."""


def write(folder: Path) -> None:
    """Write the pages into `folder`."""
    folder.mkdir(exist_ok=True)
    for name, text in {"passes": passes(), "commands": commands(), "python": names()}.items():
        page = folder / f"{name}.md"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


def passes() -> str:
    """Return the page of all passes with their options."""
    head = "# Passes\n\nWhat `onnxopt apply --passes` and `onnxopt.apply` take; made from the code.\n"
    return "\n".join([head, *(_pass(name) for name in catalog.available_passes())])


def _pass(name: str) -> str:
    spec = catalog.make_pass(name, {})
    said, _, attributes = (inspect.getdoc(type(spec)) or "").partition("\nAttributes:\n")
    needs = [need.value for need in Need if need in type(spec).needs]
    effect = f"*{type(spec).effect.value}*" + (f", needs {' and '.join(needs)}" if needs else "")
    guide = _guide(name)
    lines = [f"## {name}\n", effect + (f". Guide: [{guide}](../{guide}.md)\n" if guide else "\n"), _fenced(said)]
    options = list(_options(spec, attributes))
    if options:
        lines += ["| option | default | meaning |", "|---|---|---|", *options, ""]
    return "\n".join(lines)


def _guide(name: str) -> str | None:
    found = [(len(start), guide) for guide, starts in GUIDES.items() for start in starts if name.startswith(start)]
    return max(found)[1] if found else None


def _fenced(text: str) -> str:
    """Return text whose indented drawings are code blocks."""
    return re.sub(r"(?m)(?:^ {4}.+\n?)+", lambda m: f"```text\n{inspect.cleandoc(m[0])}\n```\n", text.strip() + "\n")


def _options(spec: Pass, attributes: str) -> Iterator[str]:
    said = dict(re.findall(r"(?m)^    (\w+): ((?:.+)(?:\n {8}.+)*)", attributes))
    default = catalog.options_of(spec)
    for name, value in default.items():
        meaning = " ".join(said.get(name, "").split()).replace("|", "\\|")
        yield f"| `{name}` | `{'none' if value is None else str(value).lower()}` | {meaning} |"


def commands() -> str:
    """Return the page of all commands with their help."""
    group = typer.main.get_command(app)
    lines = ["# Commands\n", "What `onnxopt COMMAND --help` says; made from the code.\n"]
    for name, command in group.commands.items():
        if not command.hidden:
            context = typer.Context(command, info_name=f"onnxopt {name}", terminal_width=100, max_content_width=100)
            lines += [f"## {name}\n", "```text", command.get_help(context).strip(), "```\n"]
    return "\n".join(lines)


def names() -> str:
    """Return the page of the public Python names."""
    lines = ["# Python names\n", "The examples are in [From Python](../python.md).\n"]
    for name in dir(onnxopt):
        if name.startswith("_"):
            continue
        kind = "autoclass" if inspect.isclass(getattr(onnxopt, name)) else "autofunction"
        if not callable(getattr(onnxopt, name)):
            kind = "autodata"
        lines += [f"## {name}\n", "```{eval-rst}", f".. {kind}:: onnxopt.{name}", "```\n"]
    return "\n".join(lines)

"""A GitHub workflow for one model: checked, optimized inside a budget, verified; the report is kept as an artifact."""

import json
import re
from pathlib import Path

from onnxopt import model_file
from onnxopt.errors import UsageError
from onnxopt.model_file.writable import refuse_output_file

WORKFLOW = Path(".github/workflows/onnxopt.yml")

_TEMPLATE = """\
# Written by `onnxopt init --github`. Checks the model, optimizes it within the accuracy budget, keeps the report.
name: onnxopt
on:
  workflow_dispatch:
  pull_request:%(paths)s
  push:%(paths)s
permissions:
  contents: read
defaults:
  run:
    shell: bash
jobs:
  optimize:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    env:
      # What pip installs: a name, a wheel, or git+https://...
      PACKAGE: onnxopt
      MODEL: %(model)s
      DATA: %(data)s
      MAX_DROP: %(max_drop)s
      OUT: onnxopt-run
      # Further options of `onnxopt optimize`, split at spaces.
      ARGUMENTS: "--time-limit 900"
      # true: the job fails when nothing won and best.onnx is the original.
      REQUIRE_GAIN: "false"
    steps:
      - uses: actions/checkout@v4
        with:
          lfs: true
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - name: install
        run: python -m pip install "$PACKAGE"
      - name: check
        run: onnxopt check "$MODEL" --format md >> "$GITHUB_STEP_SUMMARY"
      - name: optimize
        id: optimize
        run: |
          code=0
          read -r -a more <<< "$ARGUMENTS"
          onnxopt optimize "$MODEL" --data "$DATA" --max-drop "$MAX_DROP" --out "$OUT" --quiet "${more[@]}" || code=$?
          # 0: a candidate won; 1: none did, and best.onnx is the original.
          if [ "$code" -gt 1 ]; then exit "$code"; fi
          cat "$OUT/report.md" >> "$GITHUB_STEP_SUMMARY"
          python -c 'import json, sys; print("status=" + json.load(open(sys.argv[1]))["status"])' "$OUT/run.json" >> "$GITHUB_OUTPUT"
          if [ "$REQUIRE_GAIN" = true ]; then exit "$code"; fi
      - name: verify
        run: onnxopt verify "$OUT"
      - name: report
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: onnxopt-run
          path: onnxopt-run
          if-no-files-found: ignore
"""  # noqa: E501 (lines of the workflow)


def workflow_text(model: Path, data: str, max_drop: str) -> str:
    """Return the workflow that optimizes `model` of the repository in the current folder.

    Raises:
        UsageError: ONX101 a name cannot stand in a workflow, or is outside of the folder.
    """
    inside = _inside(model)
    samples = _inside(Path(data)) if Path(data).exists() else data
    watched = [inside, f"{samples}/**" if Path(data).is_dir() else samples, WORKFLOW.as_posix()]
    names = [name for name in watched if Path(name.removesuffix("/**")).exists() or name == WORKFLOW.as_posix()]
    # Other characters have a meaning in the filters of GitHub; without a filter every push counts.
    plain = all(re.fullmatch(r"[\w./ -]+", name.removesuffix("/**")) for name in names)
    paths = "".join(f"\n      - {_quoted(name)}" for name in names)
    filled = {"model": inside, "data": samples, "max_drop": max_drop}
    return _TEMPLATE % {
        **{key: _quoted(text) for key, text in filled.items()},
        "paths": f"\n    paths:{paths}" if plain else "",
    }


def write_workflow(path: Path, text: str, *, overwrite: bool, source: Path, data: str) -> None:
    """Write the file; the folder of workflows is made.

    Raises:
        FileError: ONX502 it exists, ONX503 it cannot be written, ONX504 it is the model or the samples.
    """
    if path == WORKFLOW:
        model_file.refuse_existing(path, overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
    refuse_output_file(path, overwrite=overwrite, source=source, read=[data], kind=".yml")
    model_file.atomic_write_text(path, text, overwrite=overwrite)


def _inside(path: Path) -> str:
    """Return a path below the current folder, which is taken for the root of the repository."""
    here = Path.cwd().resolve()
    whole = path.resolve()
    if not whole.is_relative_to(here):
        hint = "Run this at the root of the repository that holds the model and the samples."
        raise UsageError("ONX101", "the file is outside of the repository", where=str(path), hint=hint)
    return whole.relative_to(here).as_posix()


def _quoted(text: str) -> str:
    """Return text as YAML; JSON's strings are YAML's."""
    if "${{" in text:
        raise UsageError("ONX101", "GitHub would read an expression in this", where=text, hint="Rename it.")
    return json.dumps(text, ensure_ascii=True)

"""The planted worse files of a record of bench/quantize.py, made and judged again without the other rows.

    python bench/quantize_controls.py RECORD [NAME_PART ...]

When the control changes (`controls.py`), only its own rows have to be measured again: by labels, which need no clock.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from controls import CONTROLS, NOISE, controls
from pack import Case, cases
from quantize import judge, summary

import onnxopt
from onnxopt import model_file
from onnxopt.measure.runtime.environment import environment

WORSE = CONTROLS[-1]


def judged(case: Case, most: int) -> dict[str, Any]:
    """Return the row of a model's worse file, on `most` test samples."""
    with TemporaryDirectory() as folder:
        file = controls(case.path, Path(folder))[WORSE]
        found = judge(case, {WORSE: file}, Path(folder), most)[WORSE]
        return {"size_bytes": model_file.size_of(file), "noise": NOISE, **found}


def renewed(record: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the record with other rows of worse files, by model, and with the summary that follows from them."""
    models = [
        {**m, "rows": {**m["rows"], WORSE: dict(rows[m["model"]])}} if m["model"] in rows else m
        for m in record["models"]
    ]
    return {**record, "summary": summary(models), "models": models}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("only", nargs="*", help="parts of model names")
    options = parser.parse_args()
    record = json.loads(options.record.read_text())
    counts = {m["model"]: m["n"] for m in record["models"] if WORSE in m["rows"]}
    for case in cases(options.only):
        if case.name not in counts:
            continue
        row = judged(case, counts[case.name])
        record = renewed(record, {case.name: row})
        record["controls_environment"] = environment(onnxopt.Runtime())
        options.record.write_text(json.dumps(record, indent=1, default=str) + "\n")
        print(f"{case.name}: drop {100 * row['drop']:.2f} {row['drop_interval']}", flush=True)
    print(json.dumps(record["summary"]["controls"], indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

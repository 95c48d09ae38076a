"""The parts of docs/BENCHMARKS.md: the record of a bench in, the lines of its section out."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def prose(text: str) -> str:
    """Return a paragraph in one line."""
    return " ".join(text.split())


def labelled(record: Record) -> list[str]:
    from optimize_table import summary as summed_up
    from optimize_table import table

    summary, settings = summed_up(record["models"]), record["settings"]
    gained = summary["models"] - len(summary["nothing_gained"])
    before = f"""Searches of {settings["time_limit"]:g} seconds, a budget of {settings["max_drop"]}, one thread,
        batch 1. Drop in points of top-1 on all test samples (negative: better than FP32); speed-up over the baseline
        in ONNX Runtime, as called, with its 95 % interval. *Quantization alone* is the best of the same search that
        neither prunes nor factorizes. *Class* is the share of FP32's accuracy that is kept. The other columns are the
        files of ONNX Runtime's quantizer: static with its defaults, static U8S8 per channel, dynamic; drop,
        speed-up."""
    after = f"""{summary["models"]} models, of which {gained} gained. Medians over all of them:
        {summary["median_speedup"]:.2f}x faster, {summary["median_size_ratio"]:.2f}x smaller.{wide(summary)}
        Over the budget on all samples: {names(summary["over_budget"])}. Slower than FP32:
        {names(summary["slower_than_fp32"])}. More than 3 % behind another file inside the budget, beyond doubt:
        {names(summary["behind"])}. The clock was unsure of: {names(summary["unsure"])}.
        Control: the baseline beside itself differs on:
        {names(summary["baseline_differs_from_itself"])}.{busy(record["models"])}"""
    return [prose(before), "", table(record["models"]), "", prose(after)]


def wide(summary: Record) -> str:
    """Return a sentence about wide networks; "" where there are none."""
    speed, size = summary["wide_median_speedup"], summary["wide_median_size_ratio"]
    if speed is None:
        return ""
    said = f""" Of the convolutional networks and transformers with 32 channels or more in every layer but the last
        ({names(summary["wide"])}): {speed:.2f}x faster, {size:.2f}x smaller."""
    return f" {prose(said)}"


def trained(record: Record) -> list[str]:
    before, *table = labelled(record)
    about = f"""Models of which there are training samples (1,200 clips, 5,000 sentences or 50,000 images) are pruned
        and learn from the original, without labels; the samples calibrate too. They are judged on test samples that
        were not among those. A search may take {record["settings"]["time_limit"]:g} seconds."""
    return [f"{prose(about)} {before.partition('. ')[2]}", *table]


def busy(models: Sequence[Record]) -> str:
    """Return a sentence about other load; "" where it was not recorded."""
    loads = [model["load"] for model in models if "load" in model]
    return f" Load average of the host: {min(loads):g} to {max(loads):g}." if loads else ""


def deployed(record: Record) -> list[str]:
    from deployed import table

    settings = record["settings"]
    before = f"""Models that are in use, most of them from ordinary packages, {settings["samples"]} samples without
        labels, {settings["time_limit"]} seconds, a budget of {settings["max_drop"]}. *Check of it*: the shipped file
        beside the baseline on {settings["fresh"]} fresh samples, by code that shares nothing with the judge. Nothing is
        pruned or trained. *Static INT8*: the same check of a plain static file; *inside*: whether `onnxopt compare`
        calls that file within the budget."""
    return [prose(before), "", table(record["models"])]


def clock(record: Record) -> list[str]:
    cells = record["cells"]
    heads = (
        "host",
        "threads",
        "ratios",
        "trials",
        "unsure",
        "intervals with the true ratio",
        "A/A called different",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---|--:|---|" + "--:|" * 4]
    for host, threads in dict.fromkeys((cell["host"], cell["threads"]) for cell in cells):
        some = [cell for cell in cells if (cell["host"], cell["threads"]) == (host, threads)]
        trials, unsure, held = (sum(cell[key] for cell in some) for key in ("trials", "unsure", "held"))
        same = [cell for cell in some if cell["factor"] == 1]
        apart = f"{sum(cell['told_apart'] for cell in same)} of {sum(cell['trials'] for cell in same)}"
        ratios = ", ".join(f"{cell['factor']:g}" for cell in some)
        told = [host, threads, ratios, trials, unsure, f"{held} of {trials - unsure}", apart]
        lines.append("| " + " | ".join(map(str, told)) + " |")
    before = """Planted speed-ups, from 30 microseconds to 100 ms, float and INT8, beside other programs: a busy loop
        on the same processor, one on the other, bursts of 5 to 50 ms, a program that copies memory."""
    after = f"""{record["met"]} of {len(cells)} cells (host, threads, ratio) meet the criteria: at least 90 % of the
        intervals hold the true ratio; at most 5 % of A/A trials are called different; at most 10 % of the trials on an
        idle host are unsure."""
    return [prose(before), "", *lines, "", prose(after)]


def repair(record: Record) -> list[str]:
    rows, bound = record["rows"], record["bound"]
    mended = [row for row in rows if row["kept"]]
    speeds = [row["speed_up"] for row in mended if row["speed_up"]]
    counts = Counter(code for row in mended for code in row["kept"])
    codes = ", ".join(f"{code} {number}" for code, number in sorted(counts.items()))
    exact = sum(row["exact"] for row in mended)
    text = f"""{len(rows)} files of other tools that ONNX Runtime runs: {len(mended)} were mended, with a median
        speed-up of {statistics.median(speeds):.2f}x ({record["summary"]["faster"]} of them faster beyond doubt; the
        others are smaller). Slower than before, changed beyond the bound of {100 * bound:g} %, or not equal where that
        was stated: {names(record["summary"]["wrong"])}. Outputs of {exact} are equal. Repairs: {codes}. See
        [repair](repair.md#results)."""
    return [prose(text)]


def deployed_int8(record: Record) -> list[str]:
    from deployed_int8 import missed, table

    models, settings = record["models"], record["settings"]
    before = f"""Models that are in use, each quantized from the same {settings["samples"]} samples without labels
        and judged on {settings["fresh"]} others: average precision (AP) of detectors by pycocotools, exact texts and
        character error rate (CER) of recognizers, the share of right classes (*same*); against the
        labels of pictures that the bench draws, or else against
        FP32's predictions. Every file is *quantized only*; *(float)* is a file that its maker left in float. All files
        of a model are timed in one interleaved run, as called, with the 95 % interval of the speed-up over FP32."""
    lost = [f"{name} on {' and '.join(found)}" for name, found in missed(models).items() if found]
    after = f"""Controls that were not found where they belong: {names(lost)} (the FP32 file
        beside itself; a file that computes everything twice; one with noise in its weights).{busy(models)}"""
    return [prose(before), "", table(models), "", prose(after)]


def classic(record: Record) -> list[str]:
    from classic import table

    models, settings = record["models"], record["settings"]
    before = f"""The compression of the textbooks, on networks with labels: half of the multiply-accumulates removed by
        `prune-channels{{macs=0.5}}`; INT8 by `quantize --mode auto`; the pruned network after {settings["steps"]} steps
        of distillation from the float network, without labels; that one in INT8. From networks with narrow layers
        single channels are removed, which leaves widths that fill no register, and so little time is saved. Top-1 on
        test images, drop with its 95 % interval, speed-up over FP32 as called, with its 95 % interval; *minutes* to
        make a file by the clock, beside other load."""
    lost = [f"{name} on {m['model']}" for m in models for name in m["missed"]]
    after = f"""Controls that were not found where they belong: {names(lost)} (the FP32 file beside itself; a file that
        computes everything twice; one with noise in its weights).{busy(models)}"""
    return [prose(before), "", table(models), "", prose(after)]


def proof(record: Record) -> list[str]:
    rows = record["rows"]
    worst = max(rows, key=lambda row: row["proven, over budget"])
    text = f"""{len(rows)} cases of simulated searches. Highest rate of *proven* models over the budget:
        {100 * worst["proven, over budget"]:.1f} % of {worst["trials"]} searches ({worst["metric"]}, {worst["samples"]}
        samples, a true drop of {worst["true drop, points"]} points; at most 5 % is the aim). See
        [search](search.md#certainty-of-the-proof)."""
    return [prose(text)]


def quantizers(record: Record) -> list[str]:
    from quantize import medians

    models, controls = record["models"], record["summary"]["controls"]
    versions = {r["package"]: r["version"] for m in models for r in m["rows"].values() if "version" in r}
    failed = {maker: sum(maker in m["failures"] for m in models) for m in models for maker in m["failures"]}
    loads = [model["load"] for model in models]
    before = f"""Every quantizer gets the same 128 samples of {len(models)} classifiers without their labels. Every row
        is *quantized only*, but that of onnxslim, whose files stay in float; `onnxopt` is `quantize --mode auto --task
        classification`. Drops are judged by the labels of up to 1,000 test samples. All files of a model are timed in
        one interleaved run, as called. Size, p99, load time and private memory are relative to the FP32 file, medians
        over the models on which a quantizer works; *lines* are those that a user writes. The result of every quantizer
        on every model is in [quantization](quantization.md#against-other-quantizers)."""
    found = [f"{name} on {c['models'] - len(c['missed'])} of {c['models']} models" for name, c in controls.items()]
    missed = [model for control in controls.values() for model in control["missed"]]
    failures = ", ".join(f"{maker} {number}" for maker, number in failed.items())
    after = f"""Controls, found where they belong: {"; ".join(found)} (the FP32 file beside itself; a file that computes
        everything twice; one with noise in its weights{judged_elsewhere(record)}); not beyond doubt on:
        {names(missed)}. Failures: {failures}. Versions:
        {", ".join(f"{name} {number}" for name, number in sorted(versions.items()))}; quantizers with other
        requirements run in environments of their own (`--venv PACKAGE=PYTHON`). Load average of the host:
        {min(loads):g} to {max(loads):g}."""
    return [prose(before), "", *medians(models), "", prose(after)]


def judged_elsewhere(record: Record) -> str:
    """Return where the worse files were judged again (`quantize_controls.py`) and of how many models; "" for none."""
    found = record.get("controls_environment")
    count = sum("noise" in model["rows"].get("planted-worse", {}) for model in record["models"])
    return f"; the last judged again on {found['cpu']} for {count} models" if found else ""


def names(found: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(found) or "none"

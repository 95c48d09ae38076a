"""Planted speed-ups, measured by the clock, on an idle host and beside other programs.

    python bench/clock.py [--quick] [--recheck FILE] [--trials 40] [--seconds 0.4] [--hosts idle,same] [--out FILE]

Pairs are chains of equal layers, one of them longer by a known factor, in float and INT8, from 30 us to 100 ms, and a
chain beside itself. What is true of a pair is measured first, because a longer chain has one start, not several: the
ratio of the processor times of many runs of many loadings on one thread, of the times of day on two. The hosts: idle;
a busy loop on the processor that is measured (the only one the measured process may use) or on the other; bursts of 5
to 50 ms; and a program that copies memory. Every cell holds at least 90 % of its true ratios inside the 95 % interval,
or answers `unsure`; a model beside itself differs in at most 5 %; an idle host leaves at most 10 % unsure. Hosts,
factors and threads are covered in full; the forms of a pair take turns from trial to trial.

`--recheck FILE` measures these ratios anew and judges the intervals of a record by the mean of both: on a virtual
machine they drift by a percent within minutes.

The truth is that of an idle host. Where a pair is bound by memory, a hog may change the ratio itself: with 300 MB of
shared cache, as here, the layers are small enough for the processor's own cache.
"""

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from chains import FORMS, Form, chain, inputs_of

from onnxopt.measure.latency import Latency, measure_latency
from onnxopt.measure.latency.estimate import middle_mean
from onnxopt.measure.runtime.environment import environment
from onnxopt.measure.runtime.session import Runtime, Session

RESULTS = Path(__file__).parent / "results"
FACTORS = (1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
HOSTS = ("idle", "same", "other", "bursts", "hog")
THREADS = (1, 2)
LEAST_HELD, MOST_TOLD_APART, MOST_UNSURE = 0.90, 0.05, 0.10
TRUTH_S, LOADINGS = 5.0, 25
OWN, OTHER = 0, 1
HEAD = "host    factor  threads  trials  unsure  held    width"


TURNS = (0, 1, 2, 3, 0, 1, 2, 4, 3, 5)
"""Form of each trial: the longest take most of the time, and are rarer."""


@cache
def truth(form: Form, factor: float, threads: int) -> float:
    """Return the median ratio of the typical times of a run over many loadings on the idle host.

    Where code and data come to lie differs from loading to loading, and moves the ratio of small models by several
    percent; a few loadings would be as uncertain as the intervals that are judged by them.
    """
    clock = time.thread_time_ns if threads == 1 else time.perf_counter_ns
    models, feeds = (chain(form, factor), chain(form, 1.0)), inputs_of(form)
    ratios = []
    for _ in range(LOADINGS):
        options = (("session.force_spinning_stop", "1"),) if threads > 1 else ()
        sessions = [Session(model, Runtime(threads=threads, options=options)) for model in models]
        runs = [[session.bound(fed) for fed in feeds] for session in sessions]
        taken: list[list[int]] = [[], []]
        end = time.perf_counter() + TRUTH_S / LOADINGS
        while time.perf_counter() < end or len(taken[0]) < 4:
            for place in range(2):
                _block(runs[place], clock, taken[place])
        ratios.append(middle_mean(np.array(taken[0])) / middle_mean(np.array(taken[1])))
    return float(np.median(ratios))


def _block(runs: Sequence[Callable[[], object]], clock: Callable[[], int], taken: list[int]) -> None:
    """Time runs of one model in a row for 2 ms; an untimed one first refills the caches."""
    runs[-1]()
    end = time.perf_counter() + 0.002
    while True:
        run = runs[len(taken) % len(runs)]
        before = clock()
        run()
        taken.append(clock() - before)
        if time.perf_counter() > end:
            return


@contextmanager
def host(kind: str, threads: int) -> Iterator[None]:
    """Have a load, on the processor of the one measured thread or on the other."""
    usable = os.sched_getaffinity(0)
    place = OWN if kind in ("same", "bursts") else OTHER
    load = None
    if kind != "idle":
        load = multiprocessing.get_context("fork").Process(target=_load, args=(kind, place), daemon=True)
        load.start()
        time.sleep(0.2)
    if threads == 1:
        os.sched_setaffinity(0, {OWN})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)
        if load is not None:
            load.kill()
            load.join()


def _load(kind: str, place: int) -> None:
    os.sched_setaffinity(0, {place})
    rng, block = np.random.default_rng(os.getpid()), np.ones(8 << 20)
    copied = np.empty_like(block)
    while True:
        if kind == "hog":
            np.copyto(copied, block)
        elif kind == "bursts":
            end = time.perf_counter() + rng.uniform(0.005, 0.05)
            while time.perf_counter() < end:
                pass
            time.sleep(rng.uniform(0.005, 0.05))


def cell(kind: str, factor: float, threads: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return how often the clock is right about one factor on one host."""
    planned = [FORMS[TURNS[trial % len(TURNS)]] for trial in range(args.trials)]
    told = []
    for form in sorted(set(planned), key=FORMS.index):
        true = 1.0 if factor == 1 else truth(form, factor, threads)
        models = {"long": chain(form, factor), "short": chain(form, 1.0)}
        feeds = inputs_of(form)
        with host(kind, threads):
            for trial in range(planned.count(form)):
                began = time.perf_counter()
                found = measure_latency(
                    models, feeds, Runtime(threads=threads), seconds=args.seconds, epochs=5, min_rounds=10, seed=trial
                )["short"]
                told.append(_told(form, true, found, time.perf_counter() - began))
    return counted(kind, factor, threads, told)


def counted(kind: str, factor: float, threads: int, told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a cell of the table, from its trials."""
    sure = [one for one in told if one["interval"] is not None]
    return {
        "host": kind,
        "factor": factor,
        "threads": threads,
        "trials": len(told),
        "unsure": len(told) - len(sure),
        "held": sum(one["held"] for one in sure),
        "told_apart": sum(one["interval"][0] > 1 or one["interval"][2] < 1 for one in sure),
        "width": float(np.median([one["interval"][2] / one["interval"][0] for one in sure])) if sure else None,
        "each": told,
    }


def rechecked(cell: dict[str, Any]) -> dict[str, Any]:
    """Return a cell whose intervals are judged by the mean of its ratio and of one that is measured now."""
    forms = {form.name: form for form in FORMS}
    told = []
    for one in cell["each"]:
        now = 1.0 if cell["factor"] == 1 else truth(forms[one["form"]], cell["factor"], cell["threads"])
        true = math.sqrt(one["true"] * now)
        interval = one["interval"]
        held = interval is not None and interval[0] <= true <= interval[2]
        told.append({**one, "true": round(true, 4), "held": held})
    return counted(cell["host"], cell["factor"], cell["threads"], told)


def _told(form: Form, true: float, found: Latency, seconds: float) -> dict[str, Any]:
    speedup = found.speedup
    return {
        "form": form.name,
        "true": round(true, 4),
        "interval": None if speedup is None else [round(n, 4) for n in (speedup.low, speedup.value, speedup.high)],
        "held": speedup is not None and not speedup.excludes(true),
        "unsure": found.unsure,
        "waited": found.waited,
        "p50_ms": round(found.p50_ms, 4),
        "seconds": round(seconds, 2),
    }


def passes(one: dict[str, Any]) -> bool:
    """Return whether a cell meets its limits."""
    sure = one["trials"] - one["unsure"]
    good = one["held"] >= LEAST_HELD * sure
    if one["factor"] == 1:
        good = good and one["told_apart"] <= MOST_TOLD_APART * one["trials"]
    return good and (one["host"] != "idle" or one["unsure"] <= MOST_UNSURE * one["trials"])


def line(one: dict[str, Any]) -> str:
    """Return a cell as a line of the table."""
    width = "-" if one["width"] is None else f"{100 * (one['width'] - 1):.1f} %"
    sure = one["trials"] - one["unsure"]
    return (
        f"{one['host']:8}{one['factor']:6g}{one['threads']:9}{one['trials']:8}{one['unsure']:8}"
        f"{one['held']:6}/{sure:<4}{width:>9}  {'ok' if passes(one) else 'NOT MET'}"
    )


def _measured(args: argparse.Namespace) -> list[dict[str, Any]]:
    cells = list(product(args.hosts.split(","), map(float, args.factors.split(",")), map(int, args.threads.split(","))))
    # The truth of every pair is measured before any load begins.
    for form, factor, threads in product(FORMS, {c[1] for c in cells} - {1.0}, {c[2] for c in cells}):
        truth(form, factor, threads)
    print(HEAD)
    found = []
    for kind, factor, threads in cells:
        found.append(cell(kind, factor, threads, args))
        print(line(found[-1]), flush=True)
    return found


def _rechecked(path: Path) -> list[dict[str, Any]]:
    found = [rechecked(one) for one in json.loads(path.read_text())["cells"]]
    print("\n".join([HEAD, *map(line, found)]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few cells, few trials")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.4, help="of timed runs in a trial")
    parser.add_argument("--hosts", default=",".join(HOSTS))
    parser.add_argument("--factors", default=",".join(f"{factor:g}" for factor in FACTORS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--recheck", type=Path, metavar="FILE", help="judge this record by ratios measured anew")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-clock.json")
    args = parser.parse_args()
    if args.quick:
        args.trials, args.factors, args.hosts = 12, "1,2", "idle,same,hog"
    found = _rechecked(args.recheck) if args.recheck else _measured(args)
    met = sum(map(passes, found))
    print(f"{met} of {len(found)} cells meet the criteria")
    if args.quick:
        return
    record = {
        "date": str(date.today()),
        "environment": environment(Runtime()),
        "seconds": args.seconds,
        "met": met,
        "cells": found,
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"Written: {args.out}")


if __name__ == "__main__":
    main()

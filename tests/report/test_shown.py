"""How a run is shown: on a terminal, as Markdown, as a page."""

import html
import re
from base64 import b64encode
from contextlib import suppress
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

import onnxopt
from onnxopt.document.markdown import to_markdown
from onnxopt.document.terminal import to_text
from onnxopt.record.run import DeviceModelRecord, DeviceRecord, RunRecord
from onnxopt.report.card import to_card
from onnxopt.report.findings import next_step
from onnxopt.report.page import to_page
from onnxopt.report.paper import to_paper
from onnxopt.report.summary import headline, summary
from onnxopt.report.tables import choice_table, trials_table
from tests.run import fakes

MODEL = Path(__file__).parents[2] / "models" / "digits_lstm.onnx"


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> RunRecord:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxopt.run.recorder.search", fakes.fake_search)
        return onnxopt.optimize(MODEL, "digits", out=tmp_path_factory.mktemp("shown") / "run").record


def test_figures_of_a_board_are_said_to_be_its_own(record):
    assert "Latency was measured on" not in to_text(summary(record, Path("run")))
    settings = record.settings.model_copy(update={"device": "ssh://me@board:22?python=/p"})
    there = DeviceModelRecord(
        name="best",
        sha256=record.best[0].sha256,
        size_bytes=1,
        difference=0.0,
        same_class=63,
        classified=64,
        latency=None,
    )
    facts = dict.fromkeys(("device", "processor", "instructions", "threads", "software"), "as it is")
    device = DeviceRecord(facts=facts, models=(there,), refused=None)
    timed = record.model_copy(update={"settings": settings, "devices": (device,)})
    said = "Latency was measured on me@board:22, accuracy and size on the machine of the search"
    agree = "63 of 64 predictions are the same on both."
    for text in (to_text(summary(timed, Path("run"))), to_paper(timed), to_page(timed)):
        plain = " ".join(html.unescape(text).split())
        assert said in plain
        assert agree in plain
    alone = timed.model_copy(update={"devices": ()})
    assert f"{said}." in " ".join(to_text(summary(alone, Path("run"))).split())


def test_the_table_and_the_sentences(record):
    text = to_text(summary(record, Path("run")))
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("    onnxopt ")) <= 80
    table = text.split("\n\n")[0].splitlines()
    assert table[1].split() == ["candidate", "size", "p50", "ms", "speed-up", "accuracy", "drop,", "points", "verdict"]
    assert table[2].split() == ["baseline", "900", "kB", "1.25", "-", "98.50", "%", "-", "baseline"]
    assert table[3].split() == ["±3", "%"]
    assert table[-2].split() == ["dynamic", "250", "kB", "0.500", "2.50x", "98.00", "%", "0.50", "winner"]
    assert table[-1].split() == ["3.60x", "was", "1.25", "[2.48,", "2.53]", "[-0.50,", "1.50]"]
    words = " ".join(text.split())
    assert "dynamic wins: 2.50x faster [2.48, 2.53]" in words
    assert "The name dynamic: dynamic = dynamic INT8: activation ranges computed in every run." in words
    assert "top1 98.50 % to 98.20 % on 200 hold-out samples; measured drop 0.30 points (budget 1.00)" in words
    assert "probability that the true drop is within budget: 97.0 %" in words
    assert "onnxopt apply" in words
    assert "Next: deploy run/best.onnx" in words


def test_no_gain_is_called_no_gain(record):
    proof = record.proofs[0]
    even = proof.latency.speedup.model_copy(update={"low": 0.98, "value": 1.0, "high": 1.02})
    latency = proof.latency.model_copy(update={"speedup": even})
    same = record.model_copy(update={"proofs": (proof.model_copy(update={"latency": latency}),)})
    assert "dynamic wins: as fast [0.98, 1.02], " in " ".join(to_text(summary(same, Path("run"))).split())
    assert "<h1>digits_lstm.onnx: as fast, " in to_page(same)


def _unproven(record, **changes):
    trial, proof = record.trials[1], record.proofs[0]
    sure = "probability of being within 0.00 points: 45.0 %, required: 97.5 %"
    reason = f"it drops 0.30 points on 200 hold-out samples; {sure}"
    lost = trial.model_copy(update={"verdict": "not proven on the hold-out part", "reason": reason})
    update = {
        "status": "kept-original",
        "reason": f"no candidate is proven on the hold-out samples; dynamic: {reason}",
        "winner": None,
        "trials": (record.trials[0], lost),
        "proofs": (proof.model_copy(update={"accepted": False, "confidence": 0.45}),),
    }
    return record.model_copy(update=update | changes), reason


def test_a_failed_proof_is_listed_with_its_reason(record):
    unproven, reason = _unproven(record)
    page = to_page(unproven)
    proved = page[page.index("<h2>Proof on the hold-out samples") : page.index("<h2>Layers")]
    assert reason in proved
    assert "45.0 %" in proved
    assert "70.0 %" in proved
    assert "overflow-wrap: anywhere" in page[page.index("h1 {") : page.index("h2 {")]
    assert page.count('class="verdict kept"') == 1


def test_the_reason_of_every_failed_proof_is_said(record):
    unproven, reason = _unproven(record, reason="no candidate is proven on the hold-out samples; another: why")
    assert f"dynamic was not proven: {reason}." in " ".join(to_text(summary(unproven, Path("run"))).split())


def test_advice_when_nothing_may_be_lost(record):
    advice = "give a small budget, such as --max-drop 0.5pp"
    zero, _ = _unproven(record, allowed_drop=0.0)
    assert advice in " ".join(to_text(summary(zero, Path("run"))).split())
    usual, _ = _unproven(record)
    assert advice not in " ".join(to_text(summary(usual, Path("run"))).split())


def test_colour_only_on_request(record):
    assert "\x1b[" in to_text(summary(record, Path("run")), width=120, colour=True)


def test_markdown_has_one_row_per_trial(record):
    text = to_markdown(summary(record, Path("run")))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 3
    assert len({row.count("|") for row in rows}) == 1


class _Resources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def _own(page: str) -> str:
    """Return the page without plotly's code."""
    return page.replace(get_plotlyjs(), "")


def test_the_page_needs_nothing_from_elsewhere(record):
    page = to_page(record)
    assert len(page.encode()) < 8_000_000
    own = _own(page)
    assert len(own) < len(page) - 1_000_000
    parser = _Resources()
    parser.feed(own)
    assert all(value.startswith("#") for value in parser.found)
    assert parser.tags.count("script") == 3
    assert "link" not in parser.tags
    assert not re.search(r"url\(|@import|https?://", own)
    assert "default-src &#39;none&#39;" in own
    assert "prefers-color-scheme: dark" in own
    assert record.repro is not None
    assert "onnxopt apply" in own
    for step in record.trials[1].steps:
        assert all(edit.target in own for edit in step.edits)


def test_only_the_scripts_of_the_page_may_run(record):
    page = to_page(record)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    allowed = [b64encode(sha256(text.encode()).digest()).decode() for text in scripts]
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    assert re.findall(r"sha256-([^']+)'", policy) == allowed
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_names_from_the_model_cannot_inject_anything(record):
    trial = record.trials[1]
    step = trial.steps[0]
    bad = "<script>alert(1)</script>"
    edited = step.model_copy(update={"edits": (step.edits[0].model_copy(update={"target": bad}),)})
    hostile = record.model_copy(update={"trials": (trial.model_copy(update={"steps": (edited,)}),)})
    page = _own(to_page(hostile))
    assert bad not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("search", [fakes.losing_search, fakes.interrupted_search])
def test_other_endings_are_shown_too(tmp_path, monkeypatch, search):
    monkeypatch.setattr("onnxopt.run.recorder.search", search)
    with suppress(KeyboardInterrupt):
        onnxopt.optimize(MODEL, "digits", out=tmp_path / "run")
    found = RunRecord.model_validate_json((tmp_path / "run" / "run.json").read_text())
    text = " ".join(to_text(summary(found, tmp_path / "run")).split())
    assert ("No candidate won" in text) == (found.status == "kept-original")
    assert ("Not finished" in text) == (found.status == "interrupted")
    assert "Next: " in text
    assert (tmp_path / "run" / "report.html").read_text() == to_page(found)


def test_a_winner_that_is_only_likely_is_called_so_wherever_it_is_named(record):
    proof = record.proofs[0].model_copy(update={"confidence": 0.9, "standing": "likely"})
    likely = record.model_copy(update={"standing": "likely", "confidence": 0.9, "proofs": (proof,)})
    assert "(likely, 90.0 %: not proven)" in headline(likely)
    words = " ".join(to_text(summary(likely, Path("run"))).split())
    assert "dynamic is likely within budget and ships: 2.50x faster" in words
    assert "Next: add samples to prove the result, which is likely now (90.0 %)" in words
    assert "90.0 % (likely, not proven)" in to_card(likely)
    assert "likely, 90.0 %: not proven" in to_page(likely)
    proven = record.model_copy(update={"standing": "proven"})
    assert "likely" not in headline(proven)
    assert "(proven)" in to_card(proven)


def test_figures_beside_the_one_that_decides_are_said_of_the_winner(record):
    proof = record.proofs[0]
    score = proof.score.model_copy(update={"details": {"character error rate": 0.0123, "SI-SDR, dB": None}})
    told = record.model_copy(update={"proofs": (proof.model_copy(update={"score": score}),)})
    words = " ".join(to_text(summary(told, Path("run"))).split())
    assert "Secondary metrics on the hold-out samples: character error rate: 0.0123; SI-SDR, dB: -." in words
    assert "Secondary metrics" not in to_text(summary(record, Path("run")))


def test_the_page_and_the_markdown_begin_with_how_results_were_judged(record):
    judged = record.model_copy(update={"judged": "Judged as sequence, because of the steps."})
    for text in (to_page(judged), to_paper(judged)):
        assert text.index("Judged as sequence, because of the steps.") < text.index("dynamic wins:")


def test_a_candidate_that_is_not_inside_every_limit_is_neither_the_smallest_nor_the_fastest(record):
    winner = record.trial(record.winner)
    speedup = winner.latency.speedup.model_copy(update={"value": 9.0})
    fast = winner.latency.model_copy(update={"speedup": speedup})
    for verdict in ("larger", "over budget", "not proven on the hold-out part"):
        bold = winner.model_copy(update={"name": "bold", "verdict": verdict, "size_bytes": 1, "latency": fast})
        table = choice_table(record.model_copy(update={"trials": (*record.trials, bold)}))
        assert [row[0] for row in table.rows] == ["baseline", "best, smallest, fastest"]
    inside = bold.model_copy(update={"verdict": "within budget"})
    table = choice_table(record.model_copy(update={"trials": (*record.trials, inside)}))
    assert [row[0] for row in table.rows] == ["baseline", "best", "smallest, fastest"]


def test_a_long_command_stays_whole_to_be_copied(record):
    passes = f"'simplify,quantize-static{{exclude={'a' * 90}}}'"
    repro = f"onnxopt apply 'my model.onnx' --passes {passes} -o best.onnx"
    lines = to_text(summary(record.model_copy(update={"repro": repro}), Path("run"))).splitlines()
    assert lines[lines.index("To reproduce the model:") + 1] == f"    {repro}"
    short = to_text(summary(record.model_copy(update={"repro": "onnxopt apply m.onnx"}), Path("run")))
    assert "To reproduce the model: onnxopt apply m.onnx" in short.splitlines()


def _kept(record: RunRecord, *verdicts: str, **more: object) -> RunRecord:
    trials = tuple(
        record.trials[0].model_copy(update={"name": f"c{n}", "verdict": verdict, "reason": f"why {verdict}"})
        for n, verdict in enumerate(verdicts)
    )
    update = {"status": "kept-original", "reason": "none won", "winner": None, "proofs": (), "trials": trials, **more}
    return record.model_copy(update=update)


def test_a_search_that_the_time_limit_cut_goes_on_with_more_time(record):
    settings = record.settings.model_copy(update={"time_limit_s": 200.0})
    cut = _kept(record, "over budget", "failed", settings=settings, stopped="the time limit was reached")
    assert next_step(cut, Path("my run")) == "onnxopt resume 'my run' --time-limit 400"
    assert next_step(_kept(record, settings=settings), Path("run")) == "onnxopt resume run --time-limit 400"
    assert next_step(_kept(record, "over budget", settings=settings), Path("run")).startswith("give more samples")
    unsure = next_step(_kept(record, "unsure"), Path("run"))
    assert unsure.endswith(": onnxopt resume run")
    assert "--latency-seconds" not in unsure, "a resumed search has the options of the first part"


def test_the_reason_of_a_failure_is_said(record):
    text = " ".join(to_text(summary(_kept(record, "failed", "slower", "failed"), Path("run"))).split())
    assert "c0, c2 failed: why failed." in text
    same = _kept(record, "failed", reason="every candidate failed; c0: why failed")
    assert "c0 failed" not in " ".join(to_text(summary(same, Path("run"))).split())


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("mIoU with the baseline", "mIoU with the baseline (fidelity"),
        ("AP of the baseline's boxes", "AP of the baseline's boxes (fidelity"),
        ("agreement", "agreement with the baseline (fidelity"),
    ],
)
def test_the_baseline_is_named_once_above_the_table(record, metric, words):
    title = trials_table(record.model_copy(update={"kind": "fidelity", "metric": metric})).title
    assert title.startswith(words)

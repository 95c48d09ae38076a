"""Finished runs, shown again and compared."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import to_json

from onnxopt.cli.entry import main
from onnxopt.errors import FileError
from onnxopt.report.caveats import caveats, host_noise
from onnxopt.report.paper import to_paper
from onnxopt.run.runs import read_record, runs_document


def test_a_run_is_read_again(explained, explained_record):
    assert read_record(explained) == read_record(explained / "run.json") == explained_record


@pytest.mark.parametrize(("text", "says"), [("{}", "status"), ("no json", "JSON"), ('{"schema_version": 1}', "schema")])
def test_other_records_are_refused_in_one_line(tmp_path, text, says):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(FileError, match="ONX505") as caught:
        read_record(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [-1, 2, 99])
def test_a_graph_whose_nodes_read_nodes_that_are_not_before_them_is_refused(explained, tmp_path, read):
    data = json.loads((explained / "run.json").read_text())
    assert read_record(explained).analysis.before.nodes[2:]
    data["analysis"]["before"]["nodes"][2]["inputs"] = [0, read]
    (tmp_path / "run.json").write_text(json.dumps(data))
    with pytest.raises(FileError, match="ONX505") as caught:
        read_record(tmp_path)
    assert "reads nodes that are not before it" in str(caught.value)


def test_a_run_folder_of_an_earlier_schema_is_refused_by_its_version(explained, tmp_path, capsys):
    data = json.loads((explained / "run.json").read_text())
    old = {"status": data.pop("status"), "bar": 1, **data, "schema_version": 2}
    del old["reason"]
    (tmp_path / "run.json").write_text(json.dumps(old))
    assert main(["report", str(tmp_path)]) == 5
    said = capsys.readouterr().err
    assert "ONX505" in said
    assert "schema_version" in said
    assert "must have schema version 3" in said
    assert "Traceback" not in said


def _first_fields(part):
    """Return a record with the fields that it cannot lack: all others were added later, each with a default."""
    if isinstance(part, BaseModel):
        own = type(part).model_fields
        return {name: _first_fields(getattr(part, name)) for name in own if own[name].is_required()}
    return [_first_fields(item) for item in part] if isinstance(part, tuple) else part


def test_the_report_of_a_run_before_fields_were_added_is_made(explained, explained_record, tmp_path, capsys):
    text = to_json({**_first_fields(explained_record), "schema_version": 3})
    assert len(text) < len((explained / "run.json").read_bytes()) / 2
    (tmp_path / "run.json").write_bytes(text)
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    shown = capsys.readouterr().out
    assert explained_record.trials[0].name in shown
    assert (tmp_path / "page.html").is_file()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileError, match="ONX501"):
        read_record(tmp_path)


def test_runs_are_compared(explained_record):
    other = explained_record.model_copy(
        update={"settings": explained_record.settings.model_copy(update={"threads": 4}), "status": "kept-original"}
    )
    document = runs_document([Path("a"), Path("b")], [explained_record, other])
    table, text = document.blocks
    assert [row[0] for row in table.rows] == ["a", "b"]
    assert table.rows[0][2] == "2.50x\n[2.48, 2.53]"
    assert table.rows[1][-1] == "kept original"
    assert "threads: 1 in a, 4 in b." in text.lines
    assert any("different processors or threads" in line for line in text.lines)
    assert json.dumps(document.data)


def test_a_table_of_runs_repeats_their_warnings(explained_record):
    warned = explained_record.model_copy(update={"warning": "The baseline scores like a guess."})
    lines = runs_document([Path("a"), Path("b")], [explained_record, warned]).blocks[1].lines
    assert [line for line in lines if "guess" in line] == ["b: The baseline scores like a guess."]


def test_the_paper_says_what_the_page_says(explained, explained_record):
    paper = (explained / "report.md").read_text()
    assert paper == to_paper(explained_record)
    assert paper.startswith("# digits_resnet.onnx: 2.50x faster, ")
    assert "dynamic wins: 2.50x faster" in paper
    assert "| best, smallest, fastest |" in paper
    assert f"    {explained_record.repro}" in paper
    for caveat in caveats(explained_record):
        assert caveat.text in paper


def test_names_cannot_write_markdown(explained_record):
    trial = explained_record.trials[1].model_copy(update={"name": "<img src=x> [a](http://b)|c"})
    paper = to_paper(explained_record.model_copy(update={"trials": (trial,), "winner": None}))
    assert "<img" not in paper
    assert "[a](http" not in paper


def test_what_weakens_a_run_is_said(explained_record):
    said = [c.text for c in caveats(explained_record) if not c.fine]
    assert not any("Few samples" in text for text in said)
    data = explained_record.data
    few = data.holdout.model_copy(update={"samples": 20, "source": "random"})
    noisy = explained_record.baseline.latency.model_copy(update={"epochs_ms": (1.0, 1.5, 1.0, 2.0, 1.0)})
    weak = explained_record.model_copy(
        update={
            "data": data.model_copy(update={"holdout": few}),
            "kind": "fidelity",
            "baseline": explained_record.baseline.model_copy(update={"latency": noisy}),
            "trials": (),
            "proofs": (),
        }
    )
    said = " ".join(c.text for c in caveats(weak) if not c.fine)
    for words in ("Few samples", "Synthetic data", "agreement with the baseline", "Noisy host"):
        assert words in said
    assert host_noise(weak).spread == pytest.approx(1.0)


def test_report_shows_and_writes(explained, tmp_path, capsys):
    assert main(["report", str(explained), "--out", str(tmp_path / "again.html")]) == 0
    assert "dynamic wins" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "again.html").read_text() == (explained / "report.html").read_text()
    assert main(["report", str(explained), str(explained)]) == 0
    assert "All settings and versions are the same." in capsys.readouterr().out
    assert main(["report", str(explained), str(explained), "--open"]) == 2
    assert "ONX112" in capsys.readouterr().err


def test_report_opens_the_page(explained, monkeypatch, capsys):
    opened = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert main(["report", str(explained), "--open"]) == 0
    assert opened == [(explained / "report.html").as_uri()]
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["report", str(explained), "--open"]) == 0
    assert "No browser was found" in capsys.readouterr().err
    assert len(opened) == 1

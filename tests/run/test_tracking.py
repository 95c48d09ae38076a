import pytest

from onnxopt import extras
from onnxopt.cli.entry import main
from onnxopt.run import tracking


def test_a_run_becomes_an_entry_with_its_figures_and_its_report(explained, explained_record, tmp_path, capsys):
    mlflow = pytest.importorskip("mlflow", reason="mlflow keeps the entry")
    pytest.importorskip("sqlalchemy", reason="MLflow's store in one file needs it")
    uri = f"sqlite:///{tmp_path}/runs.db"
    mlflow.MlflowClient(tracking_uri=uri).create_experiment("mine", artifact_location=str(tmp_path / "files"))
    for _ in range(2):
        assert main(["log-run", str(explained), "--uri", uri, "--experiment", "mine"]) == 0, capsys.readouterr().err
    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert len(runs) == 2
    data = runs[0].data
    proof = next(p for p in explained_record.proofs if p.accepted)
    assert data.metrics["speedup"] == proof.latency.speedup.value
    assert data.metrics["drop"] == pytest.approx(proof.drop.value)
    assert data.metrics["size_before_bytes"] == explained_record.model.size_bytes
    assert data.params["max_drop"] == explained_record.settings.max_drop
    assert data.tags["status"] == explained_record.status
    assert {f.path for f in client.list_artifacts(runs[0].info.run_id)} >= {"run.json"}


def test_without_mlflow_one_line_says_what_to_install(explained, monkeypatch, capsys):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(extras, "import_module", absent)
    assert main(["log-run", str(explained), "--uri", "somewhere"]) == 2
    assert capsys.readouterr().err.strip() == (
        'ONX108: a log of runs needs a package that is not installed [mlflow]. Run: pip install "onnxopt[mlflow]"'
    )


def test_figures_need_no_mlflow(explained_record):
    figures = dict(tracking._figures(explained_record))
    assert figures["speedup_low"] < figures["speedup"] < figures["speedup_high"]
    kept = explained_record.model_copy(update={"status": "kept-original", "winner": None, "proofs": ()})
    assert set(dict(tracking._figures(kept))) == {"size_before_bytes", "size_after_bytes"}
    assert tracking._tags(kept)["passes"] == ""
    assert "warning" not in tracking._tags(kept)
    warned = kept.model_copy(update={"warning": "The baseline scores like a guess."})
    assert tracking._tags(warned)["warning"] == warned.warning

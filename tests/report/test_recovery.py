"""What recovery gave is said, tabled, and left out where there was none."""

from onnxopt.record.trial import RecoveredRecord
from onnxopt.report.page import to_page
from onnxopt.report.paper import to_paper
from onnxopt.report.recovery import recovery_sentence, recovery_table


def test_stages_are_shown(explained_record):
    stages = (
        RecoveredRecord(by="nothing", drop=0.4),
        RecoveredRecord(by="least squares", drop=0.03),
        RecoveredRecord(by="training", drop=0.001),
    )
    run = explained_record.model_copy(update={"recovered": stages})
    said = recovery_sentence(run)
    assert "alone costs 40.00 points" in said
    assert "after least-squares compensation 3.00, after training 0.10 remain" in said
    assert [row[0] for row in recovery_table(run).rows] == ["none", "least-squares compensation", "training"]
    for text in (to_page(run), to_paper(run)):
        assert "Recovery" in text
        assert "40.00" in text


def test_a_winner_that_recovers_nothing_says_nothing(explained_record):
    assert recovery_table(explained_record) is None
    assert recovery_sentence(explained_record) == ""
    assert "<h2>Recovery" not in to_page(explained_record)

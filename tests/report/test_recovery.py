"""What recovery gave is said, tabled, and left out where there was none."""

from onnxopt.record.run import RecoveredRecord
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
    assert "costs 40.00 points by itself" in said
    assert "least squares leaves 3.00, training leaves 0.10" in said
    assert [row[0] for row in recovery_table(run).rows] == ["nothing", "least squares", "training"]
    for text in (to_page(run), to_paper(run)):
        assert "What recovery gave" in text
        assert "40.00" in text


def test_a_winner_that_recovers_nothing_says_nothing(explained_record):
    assert recovery_table(explained_record) is None
    assert recovery_sentence(explained_record) == ""
    assert "What recovery gave" not in to_page(explained_record)

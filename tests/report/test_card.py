from onnxopt.cli.entry import main
from onnxopt.report.card import to_card


def test_a_card_names_the_model_the_passes_the_proof_and_the_machine(explained, explained_record, capsys):
    assert main(["card", str(explained)]) == 0
    text = capsys.readouterr().out
    assert text == to_card(explained_record)
    assert explained_record.model.sha256 in text
    assert explained_record.best[0].sha256 in text
    assert "simplify,quantize-static" in text
    assert "| top1 | 98.50 % before, 98.20 % after, on 200 samples |" in text
    assert "2.50x [2.48, 2.53]" in text
    assert explained_record.environment.cpu in text


def test_the_card_of_an_original_claims_nothing(explained_record):
    kept = explained_record.model_copy(
        update={"status": "kept-original", "winner": None, "reason": "nothing is faster"}
    )
    text = to_card(kept)
    assert "no change" in text
    assert "2.50x" not in text
    assert "Probability" not in text


def test_names_in_a_card_stay_text(explained_record):
    model = explained_record.model.model_copy(update={"path": "a|<b>](http:x).onnx"})
    text = to_card(explained_record.model_copy(update={"model": model}))
    assert "<b>" not in text
    assert "](http" not in text


def test_a_folder_without_a_run_is_an_error(tmp_path, capsys):
    assert main(["card", str(tmp_path)]) == 5
    assert capsys.readouterr().err.startswith("ONX501")


def test_a_card_repeats_the_warning_that_a_score_is_that_of_a_guess(explained_record):
    warning = "Warning: the baseline's top1 is hardly better than a guess."
    assert "Warning" not in to_card(explained_record)
    assert warning in to_card(explained_record.model_copy(update={"warning": warning}))

"""Cells in words, and what singles out the cells where a method helps."""

from dataclasses import replace

from dashboards.cells import LabelledCell, cells_of, where, words_of


def test_labels_name_the_task_and_what_varies(study) -> None:
    labels = {cell.label for cell in study.cells.values()}
    assert len(labels) == 8
    assert "digits, 30 % noisy labels, constant rate" in labels
    assert "mnist1d, clean labels, decaying rate" in labels


def test_labels_that_would_coincide_give_way_to_names(study) -> None:
    frame = study.frame.drop(columns=["label_noise"])
    findings = replace(study.findings, effects=(), averaging=())
    assert {cell.label for cell in cells_of(findings, frame).values()} == set(study.cells)


def test_factors_in_words() -> None:
    assert words_of("label_noise", 0.0) == "clean labels"
    assert words_of("train_size", 4000) == "4,000 examples"
    assert words_of("schedule", "linear") == "linear rate"
    assert words_of("batch_size", 100) == "batch size 100"


def cells(*varied: dict) -> dict[str, LabelledCell]:
    return {str(i): LabelledCell(str(i), str(i), "digits", factors) for i, factors in enumerate(varied)}


def test_where_names_the_factor_that_holds_in_exactly_those_cells() -> None:
    four = cells(*({"label_noise": n, "schedule": s} for n in (0.0, 0.3) for s in ("cosine", "constant")))
    assert where(["2", "3"], four) == "30 % noisy labels"
    assert where(["1", "3"], four) == "constant rate"
    assert where(["3"], four) == "30 % noisy labels and constant rate"


def test_where_is_silent_when_no_factor_singles_the_cells_out() -> None:
    four = cells(*({"label_noise": n, "schedule": s} for n in (0.0, 0.3) for s in ("cosine", "constant")))
    assert where(["0", "1", "2", "3"], four) is None
    assert where(["0", "3"], four) is None
    assert where([], four) is None

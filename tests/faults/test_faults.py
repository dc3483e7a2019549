"""Some of the fault matrix, on real Ray with real signals; `make faults` runs all of it."""

import sys

import pytest
from faults.cases import Case, cases
from faults.laboratory import Laboratory

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(sys.platform != "linux", reason="processes and files are watched through /proc"),
]


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    return Laboratory(tmp_path_factory.mktemp("laboratory"))


@pytest.mark.parametrize(
    "case", [case for case in cases() if case.fast], ids=lambda case: f"{case.fault} {case.moment}"
)
def test_a_disturbed_study_ends_as_if_nothing_had_been(case: Case, laboratory: Laboratory) -> None:
    case.run(laboratory, laboratory.home / case.fault.replace(" ", "-").replace(":", ""))


def test_the_matrix_names_every_case_once() -> None:
    names = [(case.fault, case.moment) for case in cases()]
    assert len(set(names)) == len(names)
    assert sum(case.fast for case in cases()) == 3

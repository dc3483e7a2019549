"""What is made of a study at its end, made of one in miniature, and thrown away."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from study.findings import find, read_findings
from study.listeners.listener import reason
from study.records import RunRecord
from study.specs.spec import StudySpec
from study.store.frame import frame_of
from study.store.results import Study, write_views
from study.training.stand_ins import rehearsed, stand_in


def conclude_in_miniature(
    page: Callable[[Study], object] | None, spec: StudySpec, records: Sequence[RunRecord]
) -> None:
    """Make the records, the frame, the findings and the page of a study, and read back what can be read.

    Args:
        page: Makes of a study whatever is shown of it at its end, if anything is.
        spec: The study.
        records: All of its records.

    Raises:
        Exception: whatever goes wrong; what it is made for is that it goes wrong here.
    """
    read = [RunRecord.model_validate_json(record.model_dump_json()) for record in records]
    with TemporaryDirectory() as place:
        study = Study(Path(place), spec, tuple(read), frame_of(read), find(spec, read))
        write_views(study)
        read_findings(study.folder / "findings.json")
        if page:
            page(study)


def conclude_beside_runs(page: Callable[[Study], object] | None, spec: StudySpec, warn: Callable[[str], None]) -> None:
    """Do so with made-up records of a study of the program's own tasks, while it runs, and say if that fails.

    One of the user's own tasks is tried before it starts: see `study.training.preflight`.

    Args:
        page, spec: As for `conclude_in_miniature`.
        warn: Told what will fail.
    """
    try:
        conclude_in_miniature(page, *rehearsed(spec, partial(stand_in, like=None)))
    except Exception as error:  # anything: it is what would be raised at the end
        warn(
            f"at its end the findings or the report of this study will fail ({type(error).__name__}: {reason(error)}), "
            "which is a fault of the program: its records will be kept, and a mended program can read them."
        )

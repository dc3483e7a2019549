"""What is made of a study at its end, made of one in miniature, and thrown away."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from study.findings import find, read_findings
from study.records import RunRecord
from study.specs.spec import StudySpec
from study.store.frame import frame_of
from study.store.results import Study, write_frame_and_findings


def conclude_in_miniature(
    page: Callable[[Study], object] | None, spec: StudySpec, records: Sequence[RunRecord]
) -> None:
    """Make the records, the frame, the findings and the page of a study, and read back what can be read.

    Args:
        page: Makes of a study whatever is shown of it at its end, if anything is.
        spec, records: The study, and all of its records.

    Raises:
        Exception: whatever goes wrong; what it is made for is that it goes wrong here.
    """
    read = [RunRecord.model_validate_json(record.model_dump_json()) for record in records]
    with TemporaryDirectory() as place:
        study = Study(Path(place), spec, tuple(read), frame_of(read), find(spec, read))
        write_frame_and_findings(study)
        read_findings(study.folder / "findings.json")
        if page:
            page(study)

"""A part of the atlas: what one finished study says, in two small tables and a page of facts.

It holds no run: of every replicate of every cell what each method scored and gained over every baseline, the
configuration that validation picked, what that cost, and the features of the baseline's run; and of every trial what
validation said of it. That is enough to ask anew what moderates gains, and what a fixed configuration would have cost.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from pydantic import BaseModel, ConfigDict, ValidationError

from study.files import write_atomically
from study.records import FactorValue
from study.specs.spec import StudySpec, parse_spec
from study.store.folder import ResultsError

_KEY = b"wasam-study atlas"  # of a table's facts, in the metadata of its file


class PartError(ResultsError):
    """A study that can't be a part of the atlas; the message says why and what to do."""


class Facts(BaseModel):
    """What a part is, apart from its numbers.

    Attributes:
        version: Of this format.
        name: The study's.
        spec_hash, spec: Its hash and its text, of which it is the hash.
        domains: Kind of data, by task.
        base: The base optimizer: the baseline's name.
        cells: The factors of every cell, by its name.
        tasks: The task of every cell.
        metrics: What the scores of a task are.
        origins: Where the data of a task are from, with licence and hash.
        versions, devices: What measured.
        runs: In all; diverged: those of them that did.
        gradient_evaluations: Of all runs.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    name: str
    spec_hash: str
    spec: str
    domains: dict[str, str]
    base: str
    cells: dict[str, dict[str, FactorValue]]
    tasks: dict[str, str]
    metrics: dict[str, str]
    origins: dict[str, str]
    versions: dict[str, str]
    devices: tuple[str, ...]
    runs: int
    diverged: int
    gradient_evaluations: int

    @cached_property
    def asked(self) -> StudySpec:
        """The spec, read from its text."""
        return parse_spec(self.spec, self.name, frozen=True)

    @property
    def question_hash(self) -> str:
        """The hash that the spec has under whatever seed."""
        return self.asked.model_copy(update={"seed": 0}).hash


@dataclass(frozen=True, slots=True)
class Part:
    """A part: its facts, and its tables, whose columns `study.atlas.columns` describes."""

    facts: Facts
    gains: pd.DataFrame
    trials: pd.DataFrame


def write_part(part: Part, folder: Path) -> Path:
    """Write a part into a folder of parts, as ``NAME.gains.parquet`` and ``NAME.trials.parquet``; return the first.

    A part that is there already under another seed is replicated: the new one goes to the folder ``seed-N`` inside.

    Raises:
        PartError: another study of that name is there.
    """
    name = part.facts.name
    first = folder / f"{name}.gains.parquet"
    held = read_facts(first) if first.exists() else part.facts
    if held.question_hash != part.facts.question_hash:
        raise PartError(
            f"the part {name!r} is there already, of another spec (hash {held.spec_hash[:12]}, this one has "
            f"{part.facts.spec_hash[:12]}); give the study another name, or remove the old part from {folder}."
        )
    if held.asked.seed != part.facts.asked.seed:
        return write_part(part, folder / f"seed-{part.facts.asked.seed}")
    content = part.facts.model_dump_json().encode()
    folder.mkdir(parents=True, exist_ok=True)
    for path, frame in ((first, part.gains), (_trials_beside(first), part.trials)):
        table = pa.Table.from_pandas(frame, preserve_index=False)
        sink = pa.BufferOutputStream()
        parquet.write_table(
            table.replace_schema_metadata({_KEY: content}), sink, compression="zstd", compression_level=19
        )
        write_atomically(path, sink.getvalue().to_pybytes())
    return first


def part_files(folder: Path) -> list[Path]:
    """Return the files of gains in a folder of parts, by name."""
    return sorted(folder.glob("*.gains.parquet"))


def read_facts(path: Path) -> Facts:
    """Return the facts of a part, from either of its files.

    Raises:
        PartError: it is none, or of another version.
    """
    try:
        return Facts.model_validate_json((parquet.read_schema(path).metadata or {})[_KEY])
    except (OSError, KeyError, ValidationError, pa.ArrowException) as error:
        raise PartError(f"{path} is no part of the atlas ({error}); remove it, and add its study anew.") from error


def read_part(path: Path) -> Part:
    """Return a part from its file of gains, beside which that of its trials stands; errors as of `read_facts`."""
    other = _trials_beside(path)
    facts = read_facts(path)
    if read_facts(other) != facts:
        raise PartError(f"{path} and {other.name} belong to different studies; remove both, and add the study anew.")
    return Part(facts, pd.read_parquet(path), pd.read_parquet(other))


def _trials_beside(gains: Path) -> Path:
    return gains.with_name(gains.name.replace(".gains.", ".trials."))

"""Tables of the UCI repository, larger than scikit-learn's, from R's collection `mlbench` as Debian packages it.

Its files are R's own, of which `rdata` reads the tables without R. Every replicate splits its test part off anew.

Source: Leisch & Dimitriadou, "mlbench: Machine Learning Benchmark Problems", CRAN.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.data.folders import data_folders, missing
from study.data.pool import Pool, TaskError, origin_of, table_pool
from study.specs.tasks import TASKS

_INSIDE = Path("mlbench", "data")  # of a data folder, and of those that R packages are installed into


@dataclass(frozen=True, slots=True)
class UciTable:
    """How the collection keeps one of the tables; all else is said in `study.specs.tasks.TASKS`.

    Attributes:
        name: Its name in the collection, and its file's.
        label: The column of classes.
        columns: How many inputs it has.
        left_out: Columns that are none of the inputs.
    """

    name: str
    label: str
    columns: int
    left_out: tuple[str, ...] = ()


TABLES: dict[str, UciTable] = {
    "letters": UciTable("LetterRecognition", "lettr", 16),
    "satellite": UciTable("Satellite", "classes", 36),
    "dna": UciTable("DNA", "Class", 180),
    "shuttle": UciTable("Shuttle", "Class", 9),
    "vowel": UciTable("Vowel", "Class", 9, left_out=("V1",)),  # V1 says who speaks
}


def find_table(name: str, folder: Path | None = None) -> Path:
    """Return the file of a table, one in `TABLES`; of ``folder`` see `study.data.folders`.

    Raises:
        TaskError: it is nowhere.
    """
    file = f"{TABLES[name].name}.rda"
    path = next((path for data in data_folders(folder) if (path := data / _INSIDE / file).is_file()), None)
    if path is None:
        remedy = "give `make tables`, which unpacks Debian's r-cran-mlbench into ~/.cache/wasam-study"
        raise missing(name, str(_INSIDE / file), folder, remedy)
    return path


def load_table(name: str, folder: Path | None = None) -> Pool:
    """Load a table as rows of numbers and classes; arguments as of `find_table`.

    Raises:
        TaskError: it is not there, or is not what it should be.
    """
    import rdata  # noqa: PLC0415  # takes a second, and few studies need it

    table, path = TABLES[name], find_table(name, folder)
    damaged = f"task {name!r} was given; its table in {path} can't be read ({{}}); remove it and get it anew"
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as that it takes a file for one of another kind
            frame = rdata.read_rda(path, default_encoding="ascii")[table.name]
        labels, rows = frame[table.label], frame.drop(columns=[table.label, *table.left_out])
        inputs, classes = rows.astype("float64").to_numpy(), labels.cat.codes.to_numpy().astype(np.int64)
    except Exception as error:  # whatever a reader raises that meets another file than it expects
        raise TaskError(damaged.format(error)) from error
    if inputs.shape[1] != table.columns or np.isnan(inputs).any() or set(classes) != {*range(TASKS[name].classes)}:
        raise TaskError(damaged.format("other columns or classes than it should have"))
    return table_pool(name, inputs, classes, origin_of("UCI by R's mlbench, CC BY 4.0 and GPL-2", content))

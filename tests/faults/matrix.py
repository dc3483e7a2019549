"""``make faults``: the table of faults × moments, each with what became of the study. See `cases`."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from faults.cases import Case, cases
from faults.laboratory import INLINE, FaultError, Laboratory
from rich.console import Console
from rich.table import Table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="*", default=[""], metavar="TEXT", help='cases whose "fault | moment" holds one'
    )
    parser.add_argument("--fast", action="store_true", help="those that continuous integration runs")
    parser.add_argument("--inline", action="store_true", help="without Ray, those that don't need it: see `inline`")
    given = parser.parse_args()
    chosen = [
        case
        for text in given.only
        for case in cases()
        if text in f"{case.fault} | {case.moment}"
        and (case.fast or not given.fast)
        and (case.inline or not given.inline)
    ]
    console, outcomes = Console(), {}
    with tempfile.TemporaryDirectory(prefix="faults-") as home:
        laboratory = Laboratory(Path(home), *([INLINE] if given.inline else []))
        for number, case in enumerate(chosen):
            began = time.monotonic()
            outcomes[case.fault, case.moment] = outcome = _outcome(case, laboratory, Path(home) / f"study-{number}")
            line = (
                f"{number + 1}/{len(chosen)} {case.fault} | {case.moment}: {outcome} ({time.monotonic() - began:.0f} s)"
            )
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(_table(outcomes))
    return any(outcome not in ("as undisturbed", "not possible here") for outcome in outcomes.values())


def _outcome(case: Case, laboratory: Laboratory, folder: Path) -> str:
    try:
        case.run(laboratory, folder)
    except FaultError as error:
        return f"BROKEN: {error}"
    except NotImplementedError:
        return "not possible here"
    return "as undisturbed"


def _table(outcomes: dict[tuple[str, str], str]) -> Table:
    moments = list(dict.fromkeys(moment for _, moment in outcomes))
    table = Table("fault", *moments, title="what became of the study")
    marks = {"as undisturbed": "✓", "not possible here": "n/a"}
    for fault in dict.fromkeys(fault for fault, _ in outcomes):
        found = (outcomes.get((fault, moment)) for moment in moments)
        table.add_row(fault, *("" if outcome is None else marks.get(outcome, "BROKEN") for outcome in found))
    return table


if __name__ == "__main__":
    sys.exit(main())

"""``make faults``: the table of faults × moments, each with what became of the study. See `cases`."""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faults.cases import Case, cases
from faults.laboratory import INLINE, PRODUCT, FaultError, Laboratory
from rich.console import Console
from rich.table import Table

GOOD, IMPOSSIBLE = "as undisturbed", "not possible here"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[""], metavar="TEXT", help="cases whose fault holds one of these")
    parser.add_argument("--each", action="store_true", help="a study for every moment, not one that is struck at all")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="so many studies side by side; default 2")
    parser.add_argument("--inline", action="store_true", help="without Ray, those that don't need it: see `inline`")
    given = parser.parse_args()
    chosen = [
        one
        for case in cases()
        if any(text in case.fault for text in given.only) and not (given.inline and case.needs_ray)
        for one in (case.each() if given.each else [case])
    ]
    console, began = Console(), time.monotonic()
    outcomes: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as home:
        laboratory = Laboratory(Path(home), INLINE if given.inline else PRODUCT)

        def examine(number: int) -> None:
            start, case = time.monotonic(), chosen[number]
            outcome = _outcome(case, laboratory, Path(home) / f"study-{number}")
            outcomes.update({(case.fault, moment): outcome for moment in case.moments})
            line = f"{number + 1}/{len(chosen)} {case.fault} | {', '.join(case.moments)}: {outcome}"
            console.print(f"{line} ({time.monotonic() - start:.0f} s)", markup=False, highlight=False, soft_wrap=True)

        with ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(examine, range(len(chosen))))
        console.width = max(console.width, 160)  # a pipe counts as 80 columns, too few for the names of the moments
        console.print(_table(outcomes, chosen))
        console.print(
            f"{len(outcomes)} cases in {time.monotonic() - began:.0f} s; "
            f"{laboratory.longest_end_s:.0f} s after a study's end no process of it was left, at most"
        )
    return any(outcome not in (GOOD, IMPOSSIBLE) for outcome in outcomes.values())


def _outcome(case: Case, laboratory: Laboratory, folder: Path) -> str:
    try:
        try:
            case.strike(laboratory, folder, case.moments)
        finally:
            laboratory.leaves_nobody(folder)
    except FaultError as error:
        return f"BROKEN: {error}"
    except NotImplementedError:
        return IMPOSSIBLE
    return GOOD


def _table(outcomes: dict[tuple[str, str], str], chosen: list[Case]) -> Table:
    moments = list(dict.fromkeys(moment for case in chosen for moment in case.moments))
    table = Table("fault", *moments, title="what became of the study")
    marks = {GOOD: "✓", IMPOSSIBLE: "n/a"}
    for fault in dict.fromkeys(case.fault for case in chosen):
        found = (outcomes.get((fault, moment)) for moment in moments)
        table.add_row(fault, *("" if outcome is None else marks.get(outcome, "BROKEN") for outcome in found))
    return table


if __name__ == "__main__":
    sys.exit(main())

"""A study of very many runs: its page, and what it took to make it. Run as a program, it says so as JSON.

The frame is built from a small study's: its tune runs are repeated under new ids with scores of their own, and the
findings that grow with the runs grow with them.
"""

import json
import re
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from synthetic import synthetic_study

from dashboards.report import build_report
from study.findings import Findings, find
from study.store.frame import frame_of


def many_runs(runs: int) -> tuple[Findings, pd.DataFrame]:
    """Return the findings and the frame of a study of at least ``runs`` runs, with every weight at its last epoch."""
    spec, records = synthetic_study(trials=8, replicates=6, failed=0.01, diverged=0.01)
    findings, frame = find(spec, records, len(records)), frame_of(records)
    tune = frame[(frame["stage"] == "tune") & frame["final"]]
    times = -(-(runs - len(records)) // tune["run_id"].nunique())
    rng = np.random.default_rng(0)
    repeated = pd.concat([tune] * times, ignore_index=True)
    number = np.repeat(np.arange(times), len(tune))
    repeated["run_id"] = repeated["run_id"].str.slice(0, 10) + pd.Series(number).map("{:06x}".format)
    repeated["trial"] += spec.search.trials * (1 + number)
    repeated["val_score"] -= rng.uniform(0, 0.05, len(repeated))
    repeated["rho"] *= rng.uniform(0.9, 1.1, len(repeated))
    whole = pd.concat([frame, repeated], ignore_index=True)
    total = whole["run_id"].nunique()
    more = dict.fromkeys(("rho", "learning_rate", "last", "averaged"), times + 1)
    return replace(
        findings,
        counts=replace(findings.counts, planned=total, completed=total - findings.counts.diverged),
        rho_responses=tuple(
            replace(r, **{name: getattr(r, name) * n for name, n in more.items()}) for r in findings.rho_responses
        ),
    ), whole


def main(runs: int) -> None:
    """Build the page of a study of ``runs`` runs; print its size, the peak of memory in all and the time it took."""
    findings, frame = many_runs(runs)
    start = time.perf_counter()
    page = build_report(findings, frame)
    found = {
        "runs": int(frame["run_id"].nunique()),
        "page_bytes": len(page.encode()),
        "peak_rss_bytes": peak_rss(),
        "build_s": round(time.perf_counter() - start, 2),
    }
    print(json.dumps(found))


def peak_rss() -> int:
    """Return the most memory that this process has held, in bytes.

    Linux keeps `getrusage`'s peak across fork and exec, so that of a big parent would count as this program's own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(int(sys.argv[1]))

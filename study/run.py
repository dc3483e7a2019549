"""``python -m study.run``: run a study from its spec to its report."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from study.agenda import Agenda
from study.findings import FindingsError
from study.plan import cells, sizes
from study.progress import Display, format_duration
from study.records import RecordError, RunRecord, write_record
from study.results import (
    ResultsError,
    Study,
    freeze_spec,
    fresh_folder_name,
    frozen_spec,
    load,
    records_of,
    write_views,
)
from study.spec import SpecError, StudySpec, builtin_specs, extends, json_schema, load_spec, parse_spec
from study.summary import averaging_table, format_table, verdict_table

EXIT_DONE, EXIT_USAGE, EXIT_FAILED_RUNS, EXIT_INTERRUPTED = 0, 2, 3, 130
_EXAMPLES = """\
examples:
  python -m study.run                          the default study, "quick", into results/quick
  python -m study.run smoke --out /tmp/smoke   another built-in study, another folder
  python -m study.run my_study.toml --dry-run  what it would run and how long that would take
  python -m study.run --resume results/quick   go on where an interrupted study stopped
  python -m study.run quick --fresh            start again; the old folder is renamed, not deleted
  python -m study.run my_study.toml --address auto --gpus-per-trial 0.5
                                               on the Ray cluster of this machine, two runs a GPU

exit codes: 0 done; 2 bad usage or spec; 3 finished, but some runs failed; 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    # Piped output is for logs: lines must not break at a width that nobody chose.
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    try:
        if options.list:
            return _list(console)
        if options.schema:
            print(json.dumps(json_schema(), indent=1))
            return EXIT_DONE
        spec, text, folder = _what_to_run(options)
        if options.dry_run:
            return _dry_run(console, spec, folder)
        return _run(console, spec, text, folder, options)
    except (SpecError, ResultsError, RecordError, FindingsError) as error:
        return _usage_error(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m study.run",
        description="Find out whether SAM, weight averaging or both help on your problem, how surely and at what cost.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("spec", nargs="?", metavar="SPEC", help='a TOML file or a built-in name; default "quick"')
    parser.add_argument("--out", type=Path, metavar="DIR", help="results folder; default results/<spec name>")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the study of this results folder")
    parser.add_argument("--fresh", action="store_true", help="start anew; an existing folder is renamed, never deleted")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan, its cost and estimated time; start nothing"
    )
    parser.add_argument("--list", action="store_true", help="list the built-in studies")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of a spec, for editors")
    parser.add_argument(
        "--address", metavar="ADDR", help='join a Ray cluster ("auto", or host:port) instead of starting one'
    )
    parser.add_argument("--cpus-per-trial", type=_positive_number, metavar="N", help="CPUs of each run; default 1")
    parser.add_argument(
        "--gpus-per-trial", type=_share_of_gpus, metavar="X",
        help="GPUs of each run, may be a fraction; default 1 where the cluster has GPUs, else 0",
    )  # fmt: skip
    parser.add_argument("--max-concurrent", type=_positive_int, metavar="N", help="at most N runs side by side")
    parser.add_argument(
        "--no-report",
        action="store_true",
        help="leave the report out; `python -m dashboards DIR` makes it later",
    )
    parser.add_argument("--quiet", action="store_true", help="print the report's path and nothing else")
    return parser


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} was given; a whole number from 1 is needed")
    return int(text)


def _positive_number(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} was given; a number above 0 is needed")
    return value


def _share_of_gpus(text: str) -> float:
    value = _number(text)
    if value < 0 or (value > 1 and value != int(value)):
        raise argparse.ArgumentTypeError(f"{text!r} was given; a fraction up to 1 or a whole number is needed")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise argparse.ArgumentTypeError(f"{text!r} was given; a number is needed")
    return value


def _what_to_run(options: argparse.Namespace) -> tuple[StudySpec, str, Path]:
    """Return the spec, its text and the results folder that the command line means."""
    if options.resume is None:
        spec, text = load_spec(options.spec or "quick")
        return spec, text, options.out or Path("results") / spec.name
    if options.spec or options.out or options.fresh:
        raise ResultsError(
            "--resume was given together with a spec, --out or --fresh; "
            "the folder of --resume holds its own spec, so give --resume alone."
        )
    frozen = frozen_spec(options.resume)
    if frozen is None:
        raise ResultsError(
            f"--resume {options.resume} was given; that folder has no spec.toml; "
            "give a folder that `python -m study.run` has written."
        )
    return frozen, (options.resume / "spec.toml").read_text(encoding="utf-8"), options.resume


def _list(console: Console) -> int:
    for name, text in builtin_specs().items():
        spec = parse_spec(text, name)
        runs = _range(*map(sum, zip(*(size.runs for size in sizes(spec)), strict=True)))
        console.print(f"{name:12} {len(cells(spec))} cells, {runs} runs. {escape(spec.question)}")
    return EXIT_DONE


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _dry_run(console: Console, spec: StudySpec, folder: Path) -> int:
    """Print what would run; nothing is started and nothing is written."""
    from study.estimate import estimated_seconds  # noqa: PLC0415  # needs torch, which takes seconds to import

    planned = sizes(spec)
    console.print(f"study {spec.name} (spec hash {spec.hash[:12]}) into {escape(str(folder))}")
    for cell in cells(spec):
        console.print(f"cell {escape(cell.name)}", style="bold")
        for size in planned:
            if size.search.cell.name == cell.name:
                longer = f", {size.search.epochs_factor:g}x epochs" if size.search.epochs_factor > 1 else ""
                console.print(
                    f"  {size.stage:8} {size.search.name}{longer} (serves {', '.join(size.search.methods)}): "
                    f"{_range(*size.runs)} runs, {_range(*size.gradient_evaluations)} gradient evaluations"
                )
    for stage in ("tune", "confirm"):
        runs = [sum(size.runs[end] for size in planned if size.stage == stage) for end in (0, 1)]
        console.print(f"{stage}: {_range(*runs)} runs")
    evaluations = [sum(size.gradient_evaluations[end] for size in planned) for end in (0, 1)]
    slots = os.cpu_count() or 1
    console.print(f"gradient evaluations: {_range(*evaluations)}")
    low, high = (estimated_seconds(spec, end, slots) for end in (0, 1))
    console.print(
        f"estimated time: {format_duration(low)} to {format_duration(high)} "
        f"({slots} runs side by side on CPUs, from training steps timed just now; Ray's start not counted)"
    )
    return EXIT_DONE


def _run(console: Console, spec: StudySpec, text: str, folder: Path, options: argparse.Namespace) -> int:
    folder_spec = None if options.fresh else frozen_spec(folder)
    if options.fresh and folder.exists():
        renamed = fresh_folder_name(folder)
        folder.rename(renamed)
        _say(console, options, f"the old study was moved to {renamed}")
    if folder_spec is None:
        if folder.exists() and any(folder.iterdir()):
            raise ResultsError(
                f"{folder} holds files but no study; give an empty or new folder with --out, or --fresh."
            )
        spec, text = _with_reference_times(spec, text)
        freeze_spec(folder, spec, text)
    elif folder_spec.hash == spec.hash:
        spec = folder_spec
    elif extends(spec, folder_spec):
        _say(console, options, f"{folder} holds a smaller version of this study: all that it measured is kept.")
        spec = spec.model_copy(update={"reference_times": folder_spec.reference_times})
        freeze_spec(folder, spec, _with_times(text, spec.reference_times))
    else:
        raise ResultsError(
            f"{folder} holds another study (spec hash {folder_spec.hash[:12]}, this one has {spec.hash[:12]}), and "
            "more than trials, seeds or problems was changed; choose another folder with --out, "
            "or --fresh to rename the old one."
        )
    agenda = Agenda(spec, records_of(folder, spec))
    if folder_spec is not None and agenda.finished:
        _say(console, options, f"{folder} is finished: nothing to train.")
        return _finish(console, folder, options)
    if folder_spec is not None:
        _say(console, options, f"{folder} is unfinished: going on after {len(agenda.records)} finished runs.")
    try:
        _train(console, spec, folder, agenda, options)
    except KeyboardInterrupt:
        console.print(
            f"\ninterrupted; every finished run is kept. Resume with: python -m study.run --resume {folder}",
            markup=False,
        )
        return EXIT_INTERRUPTED
    return _finish(console, folder, options)


def _with_reference_times(spec: StudySpec, text: str) -> tuple[StudySpec, str]:
    """Measure what budget T needs, unless the spec gives it, and add it to the text that is frozen."""
    if "T" not in spec.budgets or spec.reference_times:
        return spec, text
    from study.estimate import reference_times  # noqa: PLC0415  # needs torch

    measured = reference_times(spec)
    return spec.model_copy(update={"reference_times": measured}), _with_times(text, measured)


def _with_times(text: str, times: Mapping[str, float]) -> str:
    """Return a spec's text with its reference times as the last table, unless there are none or it has one."""
    if not times or "[reference_times]" in text:
        return text
    lines = "".join(f"{json.dumps(family)} = {time}\n" for family, time in times.items())
    return f"{text.rstrip()}\n\n[reference_times]\n{lines}"


def _train(console: Console, spec: StudySpec, folder: Path, agenda: Agenda, options: argparse.Namespace) -> None:
    """Run what the agenda still holds."""
    # Ray and Optuna take seconds to import, and listing, planning and reading need neither.
    from study import search  # noqa: PLC0415
    from study.optuna_store import OptunaStore  # noqa: PLC0415

    try:
        with search.cluster(options.address) as cluster:
            slots = search.plan_slots(
                cluster.resources, options.cpus_per_trial, options.gpus_per_trial, options.max_concurrent
            )
            _say(console, options, _where(cluster.dashboard_url, slots.concurrent, slots.gpus))
            store = OptunaStore(folder / "optuna.db", spec.search, agenda)

            def take(record: RunRecord) -> None:
                write_record(folder, record)
                agenda.complete(record)
                store.add(record, agenda.search_of(record))
                display.finished(record)

            with Display(console, agenda, slots.concurrent, options.quiet) as display:
                search.run_agenda(
                    agenda, name=spec.name, spec_hash=spec.hash, slots=slots,
                    storage=folder / "ray", take=take, listener=display,
                )  # fmt: skip
            store.close()
    except search.EngineError as error:
        raise ResultsError(str(error)) from error


def _where(dashboard_url: str, concurrent: int, gpus: float) -> str:
    device = f"{gpus:g} GPU each" if gpus else "on CPUs"
    watch = (
        f"Ray dashboard: {dashboard_url} (if it asks for a token, `ray get-auth-token` prints it)"
        if dashboard_url
        else "this Ray cluster has no dashboard"
    )
    return f"{concurrent} runs side by side, {device}. {watch}"


def _finish(console: Console, folder: Path, options: argparse.Namespace) -> int:
    """Write the views, print the tables and the report's path; the records alone decide."""
    study = load(folder)
    write_views(study)
    _say(
        console,
        options,
        f"\nLast against averaged test accuracy, same runs:\n{format_table(averaging_table(study.findings))}",
    )
    _say(
        console,
        options,
        f"\nVerdicts, tuned against tuned {study.findings.baseline}:\n{format_table(verdict_table(study.findings))}\n",
    )
    if not options.no_report:
        from dashboards.report import write_report  # noqa: PLC0415  # the one place where study asks for the report

        print(write_report(study, folder / "report.html"))
    return _exit_code(study)


def _exit_code(study: Study) -> int:
    failed = study.findings.counts.failed
    if failed:
        print(f"{failed} runs failed; their messages stand in {study.folder / 'records'}.", file=sys.stderr)
    return EXIT_FAILED_RUNS if failed else EXIT_DONE


def _say(console: Console, options: argparse.Namespace, text: str) -> None:
    if not options.quiet:
        console.print(text, markup=False)


def _usage_error(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    # A shell starts background jobs with SIGINT ignored; being interrupted must work there too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())

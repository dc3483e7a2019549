"""``python -m study.run``: run a study from its spec to its report."""

import argparse
import io
import json
import os
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from study.data.folders import DATA, DOWNLOAD
from study.driver.conduct import (
    ConclusionError,
    Wishes,
    conclude,
    concluding,
    draw_landscapes,
    engine,
    is_complete,
    train,
)
from study.driver.opening import (
    Say,
    check_own_sources,
    find_data,
    has_own_code,
    has_runs_left,
    opened,
    try_own_tasks,
    warn,
)
from study.driver.options import parser
from study.listeners.terminal import format_duration
from study.listeners.trackers import TRACKERS
from study.plan.agenda import Agenda
from study.plan.cells import cells, sizes
from study.plan.replicates import replicate_of
from study.specs.methods import METHODS
from study.specs.spec import (
    CLAIMS,
    SUITES,
    SpecError,
    StudySpec,
    builtin_specs,
    json_schema,
    load_spec,
    parse_spec,
    suite_specs,
    with_seed,
)
from study.store.folder import ResultsError, frozen_spec
from study.store.record_files import RecordError

if TYPE_CHECKING:
    from study.store.results import Study

RUN_KB = 20  # of a run on the disk: its record, TensorBoard and Optuna; measured on the default study
EXIT_DONE, EXIT_NO_CONCLUSION, EXIT_USAGE, EXIT_FAILED_RUNS = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parser().parse_args(arguments)
    # Piped output is for logs: lines must not break at a width that nobody chose.
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if options.data:
        os.environ[DATA] = str(options.data.resolve())
    if options.download:
        os.environ[DOWNLOAD] = "1"
    try:
        if options.list:
            return _list(console)
        if options.schema:
            print(json.dumps(json_schema(), indent=1))
            return EXIT_DONE
        if options.spec in SUITES:
            return _run_suite(console, options)
        spec, text, folder = _what_to_run(options)
        _check_replicates(spec, options.replicates)
        if options.dry_run:
            return _dry_run(console, spec, folder, options)
        return _run(console, spec, text, folder, options)
    except (SpecError, ResultsError, RecordError) as error:
        return _error(str(error), EXIT_USAGE)
    except ConclusionError as error:
        return _error(str(error), EXIT_NO_CONCLUSION)
    except OSError as error:  # a full disk, a folder that is gone or can't be written, a path that is none
        return _error(f"{error}; mend that and give the command again: every finished run is kept.", EXIT_USAGE)


def _what_to_run(options: argparse.Namespace) -> tuple[StudySpec, str, Path]:
    """Return the spec, its text and the results folder that the command line means."""
    if options.resume is None:
        spec, text = load_spec(options.spec or "quick")
        if options.seed is not None:
            text = with_seed(text, options.seed)
            spec = parse_spec(text, f"{options.spec or 'quick'} with --seed {options.seed}")
        own = f"-seed-{spec.seed}" if spec.seed else ""
        return spec, text, options.out or Path("results") / f"{spec.name}{own}"
    if options.spec or options.out or options.fresh or options.seed is not None:
        raise ResultsError(
            "--resume was given together with a spec, --out, --seed or --fresh; "
            "the folder of --resume holds its own spec, so give --resume alone."
        )
    frozen = frozen_spec(options.resume)
    if frozen is None:
        raise ResultsError(
            f"--resume {options.resume} was given; that folder has no spec.toml; "
            "give a folder that `python -m study.run` has written."
        )
    return frozen, (options.resume / "spec.toml").read_text(encoding="utf-8"), options.resume


def _check_replicates(spec: StudySpec, numbers: Sequence[int] | None) -> None:
    if numbers and numbers[-1] > spec.replicates:
        raise SpecError(
            f"--replicates up to {numbers[-1]} was given; the spec plans {spec.replicates}: their number is fixed "
            "before the first run, so raise replicates in the spec, and the study is marked as extended."
        )


def _list(console: Console) -> int:
    for name, text in builtin_specs().items():
        console.print(_one_line(name, parse_spec(text, name)), markup=False)
    told = f"Methods, in a spec of your own: {', '.join(METHODS)}; and any optimizer by name, such as"
    more = (
        "with perturb and average as switches on top: see study/specs/README.md, and `python -m study.new my_method.py "
        "--kind optimizer`."
    )
    own = ["  [methods.Lion]", '  optimizer = "lion_pytorch:Lion"', '  baseline = "SGD"']
    console.print("\n".join(["", *textwrap.wrap(told, 80), *own, *textwrap.wrap(more, 80)]), markup=False)
    return EXIT_DONE


def _one_line(name: str, spec: StudySpec) -> str:
    runs = _range(*map(sum, zip(*(size.runs for size in sizes(spec)), strict=True)))
    count = len(cells(spec))
    head = f"{name}: {count} {'cell' if count == 1 else 'cells'}, {runs} runs"
    return "\n".join([head, *textwrap.wrap(spec.question, 80, initial_indent="  ", subsequent_indent="  ")])


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _dry_run(console: Console, spec: StudySpec, folder: Path, options: argparse.Namespace) -> int:
    """Print what would run; nothing is started and nothing is written."""
    from study.training.estimate import estimated_seconds  # noqa: PLC0415  # needs torch, which takes seconds to import

    notes: tuple[str, ...] = ()
    if has_own_code(spec) and has_runs_left(spec, folder, fresh=options.fresh):
        spec, notes = _tried(spec, folder, options, _speaker(console, options))
    replicates = [replicate_of(spec, number) for number in options.replicates or range(1, spec.replicates + 1)]
    planned = sizes(spec, replicates)
    console.print(f"study {spec.name} (spec hash {spec.hash[:12]}) into {escape(str(folder))}")
    console.print(
        f"{len(replicates)} of {spec.replicates} replicates, each with {spec.confirms} confirm seeds a pick; "
        f"{len(cells(spec))} cells"
    )
    for stage in ("tune", "confirm"):
        runs = [sum(size.runs[end] for size in planned if size.stage == stage) for end in (0, 1)]
        console.print(f"{stage}: {_range(*runs)} runs")
    evaluations = [sum(size.gradient_evaluations[end] for size in planned) for end in (0, 1)]
    console.print(f"gradient evaluations: {_range(*evaluations)}")
    most = sum(size.runs[1] for size in planned)
    console.print(
        f"disk: about {most * RUN_KB / 1e3:,.0f} MB (records, views and logs; checkpoints of probes come on top)"
    )
    slots = os.cpu_count() or 1
    try:
        low, high = estimated_seconds(spec, slots, replicates)
    except SpecError as error:  # the data of a task are not here: they may be where the study will run
        console.print(f"estimated time: unknown, because {error}", markup=False)
    else:
        console.print(
            f"estimated time: {format_duration(low)} to {format_duration(high)} "
            f"({slots} runs side by side on CPUs, from training steps timed just now, as if nobody else used them; "
            "Ray's start not counted)"
        )
    from study.driver.design import detectable, warnings_of  # noqa: PLC0415  # SciPy, which --list does without

    console.print(detectable(spec, folder, options.sd), markup=False)
    for text in (*warnings_of(spec), *notes):
        console.print(f"note: {text}", markup=False)
    for cell in cells(spec):
        console.print(f"cell {escape(cell.name)}, each replicate", style="bold")
        for size in planned:
            if size.search.cell.name == cell.name and size.search.replicate == replicates[0]:
                longer = f", {size.search.epochs_factor:g}x epochs" if size.search.epochs_factor > 1 else ""
                serves = ", ".join(dict.fromkeys(one.role for one in size.search.contenders))
                console.print(
                    f"  {size.stage:8} {size.search.name}{longer} (serves {serves}): "
                    f"{_range(*size.runs)} runs, {_range(*size.gradient_evaluations)} gradient evaluations"
                )
    return EXIT_DONE


def _run(console: Console, spec: StudySpec, text: str, folder: Path, options: argparse.Namespace) -> int:
    """Run a study to its report, or tell how to go on with it."""
    try:
        if has_runs_left(spec, folder, fresh=options.fresh, replicates=options.replicates):
            find_data(spec)
            spec, notes = _tried(spec, folder, options, _speaker(console, options))
            for note in notes:
                console.print(f"note: {note}", markup=False)
        with opened(
            spec,
            text,
            folder,
            fresh=options.fresh,
            retry_failed=options.retry_failed,
            replicates=options.replicates,
            say=_speaker(console, options),
        ) as (held, agenda):
            return _run_opened(console, held, agenda, folder, options)
    except KeyboardInterrupt as interruption:
        resume = f"python -m study.run --resume {shlex.quote(str(folder))}"
        console.print(
            f"\ninterrupted; every finished run is kept. Resume with: {resume}"
            if (folder / "spec.toml").exists()
            else "\ninterrupted before there was anything to keep: give the command again.",
            markup=False,
        )
        return _exit_code(interruption)


def _tried(spec: StudySpec, folder: Path, options: argparse.Namespace, say: Say) -> tuple[StudySpec, tuple[str, ...]]:
    """Try the user's own tasks, which have to be those that the folder's runs were measured with; return notes."""
    found = try_own_tasks(spec, say, _page(options))
    if not (options.fresh or options.accept_changed_task):
        check_own_sources(spec, folder)
    return found


def _run_opened(console: Console, spec: StudySpec, agenda: Agenda, folder: Path, options: argparse.Namespace) -> int:
    say = _speaker(console, options)
    if is_complete(folder, agenda):
        return _concluded(folder, options, say)
    from study.driver.design import warnings_of  # noqa: PLC0415  # as in `_dry_run`

    for text in warnings_of(spec):
        say(f"note: {text}")
    size = spec, agenda.planned[0]
    with engine(_wishes(options), say, agenda.tasks, size) as session:
        with _watching(folder, options):
            train(
                spec, folder, agenda, session, console=console, quiet=options.quiet,
                meanwhile=partial(_prepare_the_end, spec, options),
            )  # fmt: skip
            draw_landscapes(folder, agenda, session)
        session.let_it_go()
        return _concluded(folder, options, say)  # Ray takes a while to end: nobody need wait for that to read


def _prepare_the_end(spec: StudySpec, options: argparse.Namespace) -> None:
    """Import what comes after the runs, by the version that started the study, and see that it will not fail."""
    if spec.probes:
        from study.training import landscape  # noqa: F401, PLC0415  # with torch
    from dashboards import closing  # noqa: F401, PLC0415  # as in `_report`
    from study.driver.rehearsal import conclude_beside_runs  # noqa: PLC0415

    if not options.no_report:
        import dashboards.report  # noqa: F401, PLC0415  # as in `_report`
    tried = {parse_spec(text, name).hash for name, text in builtin_specs().items()}  # by the program's own tests
    if not has_own_code(spec) and spec.hash not in tried:
        conclude_beside_runs(_page(options), spec, warn)


def _concluded(folder: Path, options: argparse.Namespace, say: Say) -> int:
    """Conclude from the records, tell the user and write the report."""
    from dashboards.closing import closing  # noqa: PLC0415  # as in `_report`

    study = conclude(folder)
    findings = study.findings
    with concluding(folder, "the summary"):
        text = closing(findings, study.frame, f"python -m study.run --resume {shlex.quote(str(folder))}")
    say(f"\n{text}\n")
    if findings.counts.failed:
        print(
            f"{findings.counts.failed} runs failed; their messages stand in {folder / 'records'}, and "
            f"`python -m study.run --resume {shlex.quote(str(folder))} --retry-failed` runs them again.",
            file=sys.stderr,
        )
    if not options.no_report:
        _report(study)
    return EXIT_FAILED_RUNS if findings.counts.failed else EXIT_DONE


def _watching(folder: Path, options: argparse.Namespace) -> AbstractContextManager[object]:
    """Return the block in which the report follows the study, if the user asked for that."""
    if not options.watch:
        return nullcontext()
    from dashboards.watch import in_background  # noqa: PLC0415  # as in `_report`

    return in_background(folder)


def _exit_code(interruption: KeyboardInterrupt) -> int:
    """Return 128 plus the signal's number, as shells do; see `_stop`."""
    return 128 + int(interruption.args[0] if interruption.args else signal.SIGINT)


def _run_suite(console: Console, options: argparse.Namespace) -> int:
    """Run a suite, or print its size."""
    from study.driver.suite import claim_table, outcome_table, run_suite, specs_of  # noqa: PLC0415  # need pandas
    from study.driver.summary import format_table  # noqa: PLC0415

    suite = options.spec
    if options.resume:
        raise ResultsError(f"--resume was given with the suite {suite!r}; run it again with the same --out to go on.")
    if options.seed is not None or options.replicates:
        raise ResultsError(
            f"--seed or --replicates was given with the suite {suite!r}; they are for one study: give them with one of "
            f"its specs, such as {suite}/{next(iter(suite_specs(suite)))}."
        )
    say = _speaker(console, options)
    if options.dry_run:
        for name, (spec, _) in specs_of(suite, options.scale).items():
            console.print(_one_line(f"{suite}/{name}", spec), markup=False)
        return EXIT_DONE
    try:
        studies = run_suite(
            suite,
            options.out or Path("results") / suite,
            _wishes(options),
            scale=options.scale,
            fresh=options.fresh,
            retry_failed=options.retry_failed,
            console=console,
            quiet=options.quiet,
            say=say,
        )
    except KeyboardInterrupt as interruption:
        console.print("\ninterrupted; every finished run is kept. Run the same command again to go on.", markup=False)
        return _exit_code(interruption)
    what = "Published claims" if suite == CLAIMS else "Hypotheses that were named before the first run"
    say(f"\n{what}, held against this machine's runs:\n{format_table(outcome_table(studies))}\n")
    if suite == CLAIMS:
        say(f"Claim by claim, each with all of its hypotheses:\n{format_table(claim_table(studies))}\n")
    if not options.no_report:
        for study in studies:
            _report(study)
    return EXIT_FAILED_RUNS if any(study.findings.counts.failed for study in studies) else EXIT_DONE


def _wishes(options: argparse.Namespace) -> Wishes:
    return Wishes(
        options.address, options.cpus_per_trial, options.gpus_per_trial, options.max_concurrent,
        options.storage, options.hang_after,
        {name: given for name in TRACKERS if (given := getattr(options, name))},
    )  # fmt: skip


def _speaker(console: Console, options: argparse.Namespace) -> Say:
    """Return what prints a line for the user, or nothing when they asked for quiet."""

    def say(text: str) -> None:
        if not options.quiet:
            with suppress(OSError):  # a pipe or a terminal that is gone, or a log on a full disk
                console.print(text, markup=False)

    return say


def _page(options: argparse.Namespace) -> Callable[["Study"], object] | None:
    """Return what makes a study's page without writing it, if the user wants one at all."""
    if options.no_report:
        return None

    def page(study: "Study") -> str:
        from dashboards.report import build_report  # noqa: PLC0415  # as in `_report`

        return build_report(study.findings, study.frame, records=study.records)

    return page


def _report(study: "Study") -> None:
    from dashboards.report import write_report  # noqa: PLC0415  # this file alone asks for the report

    with concluding(study.folder, "the report"):
        path = write_report(study, study.folder / "report.html")
    print(path)


def _error(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _stop(number: int, _: object) -> None:
    """Take a scheduler's SIGTERM and a lost terminal's SIGHUP for what they are: Ctrl-C by somebody else."""
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    # A shell starts background jobs with SIGINT ignored; being interrupted must work there too.
    for stopper in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stopper, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a folder's name may be no text
    try:
        sys.exit(main())
    except KeyboardInterrupt as interruption:  # before there was a study, or a second time while the first was handled
        sys.exit(_exit_code(interruption))

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
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from study.command_line import EXIT_DONE, execute, refused
from study.data.folders import DATA, DOWNLOAD
from study.driver.conduct import (
    ConclusionError,
    EngineOptions,
    conclude,
    concluding,
    draw_landscapes,
    engine,
    is_complete,
    train,
)
from study.driver.design import one_line, plan_of, warnings_of
from study.driver.messages import Say, speaker, warn
from study.driver.options import parser
from study.driver.own_code import check_own_sources, own_names, try_own_tasks
from study.driver.resume import OpenStudy, find_data, has_runs_left, opened
from study.listeners.trackers import TRACKERS
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

EXIT_NO_CONCLUSION, EXIT_FAILED_RUNS = 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parser().parse_args(arguments)
    # Piped output is for logs: lines must not break at a width that nobody chose.
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    say = speaker(console, options.quiet)
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
            return _run_suite(console, options, say)
        spec, text, folder = _what_to_run(options)
        if options.dry_run:
            return _dry_run(console, spec, folder, options, say)
        return _run(console, spec, text, folder, options, say)
    except ConclusionError as error:
        return refused(error, EXIT_NO_CONCLUSION)
    except (SpecError, ResultsError, RecordError) as error:
        return refused(error)
    except OSError as error:  # a full disk, a folder that is gone or can't be written, a path that is none
        return refused(OSError(f"{error}; mend that and give the command again: every finished run is kept."))


def _what_to_run(options: argparse.Namespace) -> tuple[StudySpec, str, Path]:
    """Return the spec, its text and the results folder that the command line means."""
    if options.resume is None:
        spec, text = load_spec(options.spec or "quick")
        if options.seed is not None:
            text = with_seed(text, options.seed)
            spec = parse_spec(text, f"{options.spec or 'quick'} with --seed {options.seed}")
        own = f"-seed-{spec.seed}" if spec.seed else ""
        folder = options.out or Path("results") / f"{spec.name}{own}"
    else:
        if options.spec or options.out or options.fresh or options.seed is not None:
            raise ResultsError(
                "--resume was given together with a spec, --out, --seed or --fresh; "
                "the folder of --resume holds its own spec, so give --resume alone."
            )
        folder, frozen = options.resume, frozen_spec(options.resume)
        if frozen is None:
            raise ResultsError(
                f"--resume {folder} was given; that folder has no spec.toml; "
                "give a folder that `python -m study.run` has written."
            )
        spec, text = frozen, (folder / "spec.toml").read_text(encoding="utf-8")
    if options.replicates and options.replicates[-1] > spec.replicates:
        raise SpecError(
            f"--replicates up to {options.replicates[-1]} was given; the spec plans {spec.replicates}: their number is "
            "fixed before the first run, so raise replicates in the spec, and the study is marked as extended."
        )
    return spec, text, folder


def _list(console: Console) -> int:
    for name, text in builtin_specs().items():
        console.print(one_line(name, parse_spec(text, name)), markup=False)
    told = f"Methods, in a spec of your own: {', '.join(METHODS)}; and any optimizer by name, such as"
    more = (
        "with perturb and average as switches on top: see study/specs/README.md, and `python -m study.new my_method.py "
        "--kind optimizer`."
    )
    own = ["  [methods.Lion]", '  optimizer = "lion_pytorch:Lion"', '  baseline = "SGD"']
    console.print("\n".join(["", *textwrap.wrap(told, 80), *own, *textwrap.wrap(more, 80)]), markup=False)
    return EXIT_DONE


def _dry_run(console: Console, spec: StudySpec, folder: Path, options: argparse.Namespace, say: Say) -> int:
    """Print what would run; nothing is started and nothing is written."""
    notes: tuple[str, ...] = ()
    if own_names(spec) and has_runs_left(spec, folder, fresh=options.fresh):
        spec, notes = _tried(spec, folder, options, say)
    for line in plan_of(spec, folder, options.replicates, options.sd, notes):
        console.print(line, markup=False)
    return EXIT_DONE


def _run(console: Console, spec: StudySpec, text: str, folder: Path, options: argparse.Namespace, say: Say) -> int:
    """Run a study to its report, or tell how to go on with it."""
    try:
        if has_runs_left(spec, folder, fresh=options.fresh, replicates=options.replicates):
            find_data(spec)
            spec, notes = _tried(spec, folder, options, say)
            for note in notes:
                console.print(f"note: {note}", markup=False)
        how = {name: getattr(options, name) for name in ("fresh", "retry_failed", "replicates")}
        with opened(spec, text, folder, **how, say=say) as study:
            return _run_opened(console, study, options, say)
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


def _run_opened(console: Console, study: OpenStudy, options: argparse.Namespace, say: Say) -> int:
    if is_complete(study):
        return _concluded(study.folder, options, say)
    for text in warnings_of(study.spec):
        say(f"note: {text}")
    with engine(_engine_options(options), say, study.agenda.tasks) as session:
        if options.watch:
            from dashboards.watch import in_background  # noqa: PLC0415  # as in `_reported`
        then = partial(_import_the_end, study.spec, options)
        with in_background(study.folder) if options.watch else nullcontext():
            train(study, session, console=console, quiet=options.quiet, then=then)
        draw_landscapes(study, session)
        session.let_it_go()
        return _concluded(study.folder, options, say)  # Ray takes a while to end: nobody need wait for that to read


def _import_the_end(spec: StudySpec, options: argparse.Namespace) -> None:
    """Import what comes after the runs, by the version that started the study."""
    if spec.probes:
        from study.training import landscape  # noqa: F401, PLC0415  # with torch
    from dashboards import closing  # noqa: F401, PLC0415  # as in `_reported`

    if not options.no_report:
        import dashboards.report  # noqa: F401, PLC0415  # as in `_reported`


def _concluded(folder: Path, options: argparse.Namespace, say: Say) -> int:
    """Conclude from the records, tell the user and write the report."""
    from dashboards.closing import closing  # noqa: PLC0415  # as in `_reported`

    study = conclude(folder)
    findings, resume = study.findings, f"python -m study.run --resume {shlex.quote(str(folder))}"
    with concluding(folder, "the summary"):
        text = closing(findings, study.frame, resume)
    say(f"\n{text}\n")
    if findings.counts.failed:
        warn(
            f"{findings.counts.failed} runs failed; their messages stand in {folder / 'records'}, and "
            f"`{resume} --retry-failed` runs them again."
        )
    return _reported([study], options)


def _run_suite(console: Console, options: argparse.Namespace, say: Say) -> int:
    """Run a suite, or print its size."""
    from study.driver.suite import claim_table, format_table, outcome_table, run_suite  # noqa: PLC0415  # need pandas

    suite = options.spec
    if options.resume:
        raise ResultsError(f"--resume was given with the suite {suite!r}; run it again with the same --out to go on.")
    if options.seed is not None or options.replicates:
        raise ResultsError(
            f"--seed or --replicates was given with the suite {suite!r}; they are for one study: give them with one of "
            f"its specs, such as {suite}/{next(iter(suite_specs(suite)))}."
        )
    if options.dry_run:
        for name, text in suite_specs(suite).items():
            console.print(one_line(f"{suite}/{name}", parse_spec(text, name)), markup=False)
        return EXIT_DONE
    try:
        studies = run_suite(
            suite,
            options.out or Path("results") / suite,
            _engine_options(options),
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
    return _reported(studies, options)


def _engine_options(options: argparse.Namespace) -> EngineOptions:
    return EngineOptions(
        options.address, options.cpus_per_trial, options.gpus_per_trial, options.max_concurrent,
        options.storage, options.hang_after,
        {name: given for name in TRACKERS if (given := getattr(options, name))},
    )  # fmt: skip


def _page(options: argparse.Namespace) -> Callable[["Study"], object] | None:
    """Return what makes a study's page without writing it, if the user wants one at all."""
    if options.no_report:
        return None

    def page(study: "Study") -> str:
        from dashboards.report import build_report  # noqa: PLC0415  # as in `_reported`

        return build_report(study.findings, study.frame, records=study.records)

    return page


def _reported(studies: Sequence["Study"], options: argparse.Namespace) -> int:
    """Write the reports, unless the user wants none, and return the exit code."""
    if not options.no_report:
        from dashboards.report import write_report  # noqa: PLC0415  # this file alone asks for the report

        for study in studies:
            with concluding(study.folder, "the report"):
                path = write_report(study, study.folder / "report.html")
            print(path)
    return EXIT_FAILED_RUNS if any(study.findings.counts.failed for study in studies) else EXIT_DONE


def _exit_code(interruption: KeyboardInterrupt) -> int:
    """Return 128 plus the signal's number, as shells do; see `_stop`."""
    return 128 + int(interruption.args[0] if interruption.args else signal.SIGINT)


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
        execute(main)
    except KeyboardInterrupt as interruption:  # before there was a study, or a second time while the first was handled
        sys.exit(_exit_code(interruption))

"""The problem with plain Optuna: two processes share a journal on disk, as its tutorial has it."""

import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import optuna
from benchmarks.peers.plain_torch import fit
from benchmarks.peers.problem import Configuration, Scores, solve
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState

PROCESSES = 2


def storage_at(path: str) -> optuna.storages.JournalStorage:
    """Open the journal that the processes share."""
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))


def objective(trial: optuna.Trial) -> float:
    """Train what the trial proposes; every trial was enqueued."""
    configuration = Configuration(
        trial.suggest_int("replicate", 1, 9999),
        trial.suggest_categorical("family", ["base", "sam"]),
        trial.suggest_int("index", 0, 9999),
        trial.suggest_float("learning_rate", 0.001, 1.0, log=True),
        trial.suggest_float("rho", 0.0, 1.0),
        trial.suggest_float("average_start", 0.0, 1.0),
    )
    scores = fit(configuration, trial.suggest_int("seed", 0, 2**48))
    trial.set_user_attr("scores", asdict(scores))
    return max(scores.last, scores.average)


def work(path: str, name: str, trials: int) -> None:
    """Take trials until all are done, in one process."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name=name, storage=storage_at(path))
    stop = MaxTrialsCallback(trials, states=(TrialState.COMPLETE, TrialState.RUNNING))
    study.optimize(objective, callbacks=[stop])


def sweep(wanted: list[tuple[Configuration, int]]) -> list[Scores]:
    """Train a list of configurations with Optuna and return their scores in its order."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as home:
        path = str(Path(home) / "journal.log")
        study = optuna.create_study(study_name="sweep", storage=storage_at(path), direction="maximize")
        for configuration, seed in wanted:
            study.enqueue_trial(asdict(configuration) | {"seed": seed})
        with ProcessPoolExecutor(PROCESSES) as pool:
            for done in [pool.submit(work, path, "sweep", len(wanted)) for _ in range(PROCESSES)]:
                done.result()
        by_content = {(t.params["family"], t.params["index"], t.params["seed"]): t for t in study.trials if t.value}
    return [Scores(**by_content[c.family, c.index, seed].user_attrs["scores"]) for c, seed in wanted]


if __name__ == "__main__":
    solve(sweep)

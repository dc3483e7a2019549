"""What the baseline of a cell is like, as far as it may say when a method gains."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

FEATURES: dict[str, str] = {
    "base_score": "score of the baseline",
    "score_gap": "training minus validation score at the end",
    "loss_gap": "validation minus training loss at the end",
    "early_stopping": "what the best epoch gains on validation over the last",
    "best_epoch": "the best epoch, as a share of all",
    "memorized": "share of wrong training labels that are memorized",
    "end_rate": "log10 of the learning rate at the end",
    "halfway_noise": "share of noise in a step's gradient, half-way",
    "noise": "share of noise in a step's gradient, at the end",
    "sharpness": "log10 of largest eigenvalue × picked rate",
    "rise": "log10 of the rise within a radius of 0.05",
}
_AS_MEASURED = ("base_score", "score_gap", "loss_gap", "early_stopping", "best_epoch", "memorized")


def features_of(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the features of each group of rows, in their order, by the names of `FEATURES`; NaN where unknown.

    A feature is a mean over the replicates, of logarithms over those in which it is above 0. The share of noise in a
    step's squared gradient is B_simple / (B_simple + B), with batches of B: signal and noise are averaged first, as the
    signal of one replicate may be estimated below 0.

    Args:
        rows: Columns of `study.atlas.columns.GAINS` from ``base_score`` on, ``batch_size`` and those of ``by``.
        by: Columns that name a group.
    """

    def log10(values: pd.Series) -> pd.Series:
        found: pd.Series = np.log10(values.where(values > 0))
        return found

    logs = {
        "end_rate": log10(rows["end_rate"]),
        "sharpness": log10(rows["top_eigenvalue"] * rows["base_rate"]),
        "rise": log10(rows["worst_case_rise"]),
    }
    of_steps = {"halfway_noise": "halfway_gradient", "noise": "gradient"}
    noises = {name: rows[f"{measured}_noise"] / rows["batch_size"] for name, measured in of_steps.items()}
    signals = {f"{name} signal": rows[f"{measured}_signal"] for name, measured in of_steps.items()}
    columns = pd.DataFrame({**rows[[*_AS_MEASURED]], **logs, **noises, **signals}).astype(float)
    means = columns.groupby([rows[name] for name in by], sort=False).mean()
    for name in of_steps:
        noise, signal = means[name], means[f"{name} signal"].clip(lower=0)
        means[name] = (noise / (noise + signal)).where(noise > 0)
    return means[[*FEATURES]]

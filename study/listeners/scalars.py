"""A run's name and what it measured, as trackers of experiments want them."""

from study.records import METRICS, RunRecord


def run_name(record: RunRecord) -> str:
    """Return ``<family>-<stage>-<run_id>``."""
    return f"{record.job.family.replace(' ', '-')}-{record.job.stage}-{record.run_id}"


def scalars(record: RunRecord) -> list[tuple[str, int, float]]:
    """Return what a run measured as ``(<metric>/<weights>, epoch, value)``, such as ``val_score/swa-0.75``.

    The names are valid for TensorBoard, Weights & Biases and MLflow alike.
    """
    return [
        (f"{metric}/{measurement.weights.replace('@', '-')}", measurement.epoch, value)
        for measurement in record.measurements
        for metric in METRICS
        if (value := getattr(measurement, metric)) is not None
    ]

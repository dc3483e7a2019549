"""What a run measured, as every tracker of experiments wants it."""

from study.records import METRICS, RunRecord


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

"""The end of a study on the terminal: averaged against final score, and the verdicts, as pandas tables."""

import pandas as pd

from study.findings import Findings


def averaging_table(findings: Findings) -> pd.DataFrame:
    """Return last against averaged test score of the same confirm runs, one row per cell × family.

    Columns: cell, trajectory, last, averaged, gain and its 95 % interval (fractions), n.
    """
    return pd.DataFrame(
        [
            {
                "cell": effect.cell,
                "average of": effect.baseline,
                "last": _mean(effect.baseline_values),
                "averaged": _mean(effect.method_values),
                "gain": effect.mean,
                "95% interval": _interval(effect.ci95),
                "n": effect.n,
            }
            for effect in findings.averaging
        ]
    )


def verdict_table(findings: Findings) -> pd.DataFrame:
    """Return the verdicts, one row per method × cell × budget; gains and intervals are fractions."""
    return pd.DataFrame(
        [
            {
                "method": effect.method,
                "cell": effect.cell,
                "budget": effect.budget,
                "verdict": effect.verdict,
                "gain": effect.mean,
                "95% interval": _interval(effect.ci95),
                "detectable": effect.minimum_detectable,
                "n": effect.n,
                "cost": effect.cost_ratio,
            }
            for effect in findings.effects
            if effect.metric == findings.metric
        ]
    )


def format_table(table: pd.DataFrame) -> str:
    """Format a table for a terminal: four decimals, a dash where there is no number."""
    if table.empty:
        return "(nothing measured yet)"
    return table.to_string(index=False, na_rep="–", float_format=lambda value: f"{value:.4f}")


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _interval(ends: tuple[float, float]) -> str:
    low, high = ends
    return "–" if low != low else f"[{low:+.4f}, {high:+.4f}]"

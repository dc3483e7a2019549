"""Tables of pandas on a terminal."""

import pandas as pd


def format_table(table: pd.DataFrame) -> str:
    """Format a table for a terminal: four decimals, a dash where there is no number."""
    if table.empty:
        return "(nothing measured yet)"
    return table.to_string(index=False, na_rep="–", float_format=lambda value: f"{value:.4f}")

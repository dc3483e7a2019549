"""The figures: each computes a frozen dataclass from findings or the frame, and draws it. Numbers are tested there."""

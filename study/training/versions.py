"""The packages that a run's numbers depend on."""

from functools import cache
from importlib.metadata import version

_PACKAGES = ("torch", "numpy", "ray", "optuna", "wasam-study")


@cache
def versions() -> dict[str, str]:
    """Return their versions by name, for the record."""
    return {name: version(name) for name in _PACKAGES}

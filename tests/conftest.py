"""Which tests may run side by side, with ``pytest -n 2 --dist loadgroup``.

Tests that start Ray (marked ``ray``) follow each other on one worker: two Rays on one machine are in each other's way.
All other tests stay with their file, whose fixtures are then made once.
"""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))

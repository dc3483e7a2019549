"""The examples in the docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import wasam_core

MODULES = [module.name for module in pkgutil.walk_packages(wasam_core.__path__, "wasam_core.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0


def test_every_public_name_has_an_example():
    finder = doctest.DocTestFinder(recurse=False)
    public = [getattr(wasam_core, name) for name in wasam_core.__all__]
    lacking = [o.__name__ for o in public if callable(o) and not finder.find(o, o.__name__)[0].examples]
    assert lacking == []

"""The source of a user's own task: which files it is made of, and their hashes.

The file that holds the task's function, and whatever it imports that is neither installed nor this program's, found by
reading ``import`` statements, wherever they stand; what is imported by a name that is put together is not seen, nor are
data. The bytes are hashed, so that a changed comment is a change: nobody can tell from outside which line matters.
"""

import ast
import hashlib
import os
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_OURS = tuple(os.path.join(Path(__file__).parents[2], package, "") for package in ("study", "wasam_core"))
_INSTALLED = tuple(
    os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


@cache
def source_of(task: str) -> str:
    """Return the files that a task is made of with their hashes: ``my_task.py=0a1b2c3d4e5f helper.py=…``.

    It is read once a process, when the task is imported there: that is the source that it runs.
    """
    module = task.partition(":")[0]
    top = module.partition(".")[0]
    own = folder_of(top)
    root = os.path.dirname(own.rstrip(os.sep)) if own else ""
    its_own = module.rpartition(".")[2]  # comes first
    files = sorted(_files_of(module, own), key=lambda file: (Path(file).stem != its_own, file))
    digests = {file: hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12] for file in files}
    return " ".join(f"{os.path.relpath(file, root).replace(' ', '_')}={digest}" for file, digest in digests.items())


def is_users(filename: str, own: str | None) -> bool:
    """Tell whether a file is a user's own code: under ``own``, or neither installed nor this program's."""
    if own is not None and filename.startswith(own):
        return True
    return not filename.startswith((*_OURS, *_INSTALLED, "<frozen"))


def folder_of(package: str) -> str | None:
    """Return the folder of a top-level package, or the file of a module; None if there is none."""
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        return None
    if found is None:
        return None
    if found.origin is None:  # a package without an __init__.py
        return next((os.path.join(place, "") for place in found.submodule_search_locations or ()), None)
    return found.origin.removesuffix("__init__.py")


def _files_of(module: str, own: str | None) -> set[str]:
    """Return the user's files that a module is made of, its own among them."""
    found: set[str] = set()
    waiting = list(_prefixes(module))
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        file = _file_of(name)
        if file is None or not is_users(file, own):
            continue
        found.add(file)
        if file.endswith(".py"):
            package = name if file.endswith("__init__.py") else name.rpartition(".")[0]
            for imported in _imports(file, package):
                new = [one for one in _prefixes(imported) if one not in seen]
                seen.update(new)
                waiting += new
    return found


def _prefixes(module: str) -> Iterator[str]:
    """Yield a module's name and those of the packages that it is in."""
    parts = module.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _file_of(module: str) -> str | None:
    """Return the file of a module without importing its packages; None if there is none."""
    top, *inner = module.split(".")
    place = folder_of(top)
    if place is None:
        return None
    if not inner and not place.endswith(os.sep):
        return place if os.path.isfile(place) else None
    path = os.path.join(place, *inner)
    candidates: Iterable[str] = (f"{path}.py", os.path.join(path, "__init__.py"))
    return next((file for file in candidates if os.path.isfile(file)), None)


def _imports(file: str, package: str) -> Iterator[str]:
    """Yield the names of all modules that a file may import; what may also be a function of one is among them."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*outer, *([node.module] if node.module else [])])
            if start:
                yield from (start, *(f"{start}.{alias.name}" for alias in node.names))

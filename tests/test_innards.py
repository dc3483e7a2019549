"""What other libraries keep to themselves: a room for each, a canary for each use that says what broke, a way without.

A release that is not in a room's `TRIED` is used by public ways alone. To try one: install it, see which canaries sing,
mend the room, run the whole suite, and add the release to `TRIED` and to the bounds in pyproject.toml.
"""

import ast
import inspect
import json
import math
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parent.parent
ROOMS = {
    "ray": "study/engine/bare_ray.py",
    "torch": "wasam_core/bare_torch.py",
}
# Names with an underscore that are public: of named tuples, of Python, of torch's documentation ("foreach"), and what
# torch's own tutorials read of a module or a tensor.
PUBLIC = re.compile(
    r"_fields|_make|_replace|_asdict|_exit|_foreach_\w+|_parameters|_buffers|_modules|_version"
    # What an optimizer inherits, and what a wrapped model answers with; each has its canary.
    r"|_(?:global_)?optimizer_\w+_hooks|_forward_pre_hooks|_forward_pre_hooks_with_kwargs|_join_config"
)


@dataclass(frozen=True)
class Canary:
    """One use of what a library keeps to itself.

    Attributes:
        place: ``module:name`` of what is used.
        purpose: What it is used for.
        takes: Names of the arguments of what we put in its place, or call; None where that is not asked.
        sets: Attributes that it, a constructor, gives its object.
    """

    place: str
    purpose: str
    takes: str | None = None
    sets: tuple[str, ...] = ()


CONTROLLER = "ray.tune.execution.tune_controller"
CANARIES = (
    Canary("ray._private.worker:print_to_stdstream", "silences pages about lost workers"),
    Canary("ray._private.ray_constants:ENABLE_RAY_CLUSTER", "keeps a study's own Ray on loopback"),
    Canary("ray._private.state:actors", "finds the process of a run, for its CPU time"),
    Canary("ray.actor:ActorHandle.__init__", "finds the process of a run", sets=("_ray_actor_id",)),
    Canary("ray.air.execution._internal.actor_manager:RayActorError", "counts every way to lose a worker as a loss"),
    Canary(f"{CONTROLLER}:RayActorError", "counts every way to lose a worker as a loss"),
    Canary(f"{CONTROLLER}:TuneController.checkpoint", "brings no vanished storage back", "self force wait"),
    Canary("ray.air._internal.usage:tag_callbacks", "imports no tracker to count callbacks", "callbacks"),
    Canary("ray.tune.experiment.trial:Trial.__init__", "kills hung runs, frees memory",
           sets=("temporary_state", "run_metadata")),
    Canary("ray.tune.experiment.trial:_TemporaryTrialState.__init__", "kills hung runs", sets=("ray_actor",)),
    Canary("ray.tune.experiment.trial:Trial.get_json_state", "frees memory of ended runs", "self"),
    Canary("ray.tune.trainable.metadata:_TrainingRunMetadata.__init__", "frees memory of ended runs",
           sets=("metric_analysis", "metric_n_steps")),
    Canary("ray.tune.trainable:Trainable.__init__", "deletes what a failed save has left", sets=("_storage",)),
    Canary("torch.nn.modules.batchnorm:_NormBase", "knows layers with running statistics"),
    Canary("torch.nn.modules.batchnorm:_BatchNorm", "knows BatchNorm layers"),
    Canary("torch.nn.modules.instancenorm:_InstanceNorm", "knows InstanceNorm layers"),
    Canary("torch.optim:Optimizer.add_param_group.__wrapped__", "imports nothing of torch.compile"),
    Canary("torch.optim:Optimizer.profile_hook_step", "takes a step without profiling and hooks"),
    Canary("torch.optim:SGD.step.__wrapped__", "takes a step without profiling and hooks"),
    Canary("torch.optim.optimizer:_use_grad_for_differentiable", "switches gradients off quickly", "func"),
    Canary("torch.optim.optimizer:_global_optimizer_pre_hooks", "sees that somebody hooks all optimizers"),
    Canary("torch.optim.optimizer:_global_optimizer_post_hooks", "sees that somebody hooks all optimizers"),
    Canary("torch.optim:Optimizer.__init__", "sees hooks of an optimizer",
           sets=("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks", "_optimizer_state_dict_pre_hooks",
                 "_optimizer_state_dict_post_hooks", "_optimizer_load_state_dict_pre_hooks",
                 "_optimizer_load_state_dict_post_hooks")),
    Canary("torch.nn:Module.register_forward_pre_hook", "sees whether a model is called twice on the same inputs",
           sets=("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")),
    Canary("torch.distributed.algorithms.join:Joinable.__init__", "refuses what waits for all inside model.join()",
           sets=("_join_config",)),
    Canary("torch._C._autograd:_profiler_enabled", "sees that somebody profiles"),
    Canary("torch._C:_set_grad_enabled", "switches gradients off quickly"),
    Canary("torch._C:_storage_Use_Count", "moves weights aside where nobody else reads them"),
    Canary("torch.nn.utils.parametrize:_cache", "drops cached values of weights that have moved"),
    Canary("torch:_amp_foreach_non_finite_check_and_unscale_", "finds values that are not finite in one pass"),
)  # fmt: skip


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.place)
def test_it_is_there_and_takes_what_we_give(canary: Canary) -> None:
    library = canary.place.partition(".")[0].partition(":")[0]
    about = f"{library} {version(library)}: {canary.place}, which {canary.purpose} (see {ROOMS[library]})"
    try:
        found = resolve_name(canary.place)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{about}, is gone: {error}")
    if canary.takes is not None:
        taken = " ".join(inspect.signature(found).parameters)
        assert taken == canary.takes, f"{about}, takes other arguments"
    missing = {*canary.sets} - {*inspect.unwrap(found).__code__.co_names} if canary.sets else ()
    assert not missing, f"{about}, sets no {', '.join(sorted(missing))}"


def room_of(library: str) -> ModuleType:
    module = resolve_name(ROOMS[library].removesuffix(".py").replace("/", "."))
    assert isinstance(module, ModuleType)
    return module


@pytest.mark.parametrize("library", ROOMS)
def test_the_release_that_is_installed_was_tried_and_the_next_one_is_out_of_bounds(library: str) -> None:
    tried = room_of(library).TRIED
    assert version(library).rpartition(".")[0] in tried, (
        f"only {', '.join(tried)} were tried: see the head of this file"
    )
    major, minor = map(int, tried[-1].split("."))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (bounds,) = (one for one in project["dependencies"] if re.match(rf"{library}\b", one))
    assert f"<{major}.{minor + 1}" in bounds


@cache
def private_uses() -> list[tuple[str, str]]:
    """Return where what a library keeps to itself is imported or read, and what; names of our own are left out."""
    uses: list[tuple[str, str]] = []
    trees = {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for package in ("wasam_core", "study", "dashboards")
        for path in (ROOT / package).rglob("*.py")
    }
    ours = {
        name
        for tree in trees.values()
        for node in ast.walk(tree)
        for name in (
            [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef)
            else [node.attr] if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            else [node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            else []
        )
    }  # fmt: skip
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", "") or ""
                names = [f"{module}.{alias.name}" for alias in node.names]
                found = [name for name in names if re.search(r"(^|\.)_(?!_)", name)]
            elif isinstance(node, ast.Attribute) and re.match(r"_(?!_)", node.attr):
                found = [] if node.attr in ours or PUBLIC.fullmatch(node.attr) else [node.attr]
            else:
                continue
            uses += [(f"{path}:{node.lineno}", name) for name in found]
    return uses


def test_innards_are_used_in_their_rooms_alone() -> None:
    wrong = [f"{place}: {name}" for place, name in private_uses() if place.partition(":")[0] not in ROOMS.values()]
    assert not wrong, "\n".join(wrong)


def test_every_private_module_that_a_room_imports_has_a_canary() -> None:
    imported = {name for place, name in private_uses() if place.startswith(ROOMS["ray"]) and "." in name}
    watched = {canary.place.partition(":")[0] for canary in CANARIES}
    assert imported <= {*watched, *(name.rpartition(".")[0] for name in watched)} | watched


# The ways without.

PLAIN = """
import json, sys
from pathlib import Path
from study.engine import bare_ray
bare_ray.TRIED = ()
from engine_room import Diary, faulty_job, run_jobs
from study.engine.cluster import cluster
home, diary = Path(sys.argv[1]), Diary()
with cluster(None) as joined:
    records = run_jobs([faulty_job(home, 0), faulty_job(home, 1, "die")], home / "ray", diary=diary)
print(json.dumps({
    "url": joined.dashboard_url, "warning": joined.warning, "ends": [records[0].status, records[1].status],
    "error": records[1].error, "retries": diary.retries(),
}))
"""


@pytest.mark.ray
def test_a_ray_that_was_not_tried_runs_a_study_by_public_ways_alone(tmp_path: Path) -> None:
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "cluster" / "code")))
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(tmp_path)], capture_output=True, text=True, check=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert seen["ends"] == ["completed", "failed"]
    assert "its process died" in seen["error"]
    assert len(seen["retries"]) == 2
    assert seen["url"].startswith("http://127.0.0.1:")
    assert seen["warning"] == ""


def test_where_ray_is_not_on_loopback_the_user_is_told() -> None:
    from study.engine.cluster import warning_of  # noqa: PLC0415  # with Ray

    assert warning_of("127.0.0.1") == warning_of("::1") == ""
    assert "listens at 10.0.0.7: machines that reach this one reach its ports" in warning_of("10.0.0.7")


def test_what_is_read_of_tunes_objects_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    bare_ray = room_of("ray")
    monkeypatch.setattr(bare_ray, "TRIED", ())
    nothing = SimpleNamespace()
    assert bare_ray.actor_of(nothing) is None
    bare_ray.forget(nothing)
    bare_ray.discard_half_saved(nothing)
    with pytest.raises(LookupError):
        bare_ray.place_of(nothing)


def test_a_torch_that_was_not_tried_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from wasam_core import WASAM, norms, stand_in  # noqa: PLC0415

    room = room_of("torch")
    monkeypatch.setattr(stand_in, "LARGE_BYTES", 0)
    ends = []
    for known in (True, False):
        monkeypatch.setattr(room, "KNOWN", known)
        if not known:
            monkeypatch.setattr(room, "_SETTING_GRAD_MODE", None)
            monkeypatch.setattr(room, "_set_grad", torch.set_grad_enabled)
            monkeypatch.setattr(norms, "non_finite_check", room._does_not_say)
            monkeypatch.delattr("torch.nn.utils.parametrize._cache")
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=0.1, lr=0.1, momentum=0.9, model=model)
        assert (room.bare_step(optimizer.base_optimizer) is None) is not known
        assert math.isnan(room.users_of_storage(torch.ones(2))) is not known
        for _ in range(3):
            x = torch.randn(8, 3)

            def closure(x: torch.Tensor = x, model: nn.Module = model) -> torch.Tensor:
                loss = model(x).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)
        assert torch.is_grad_enabled()
        ends.append([value.clone() for value in model.state_dict().values()])
    assert all(map(torch.equal, *ends))

"""Live numbers: they reach Ray's Prometheus endpoint, and the dashboard for Grafana asks for no others."""

import json
import re
import time
import urllib.request
from collections import Counter
from importlib.resources import files
from types import SimpleNamespace

import pytest
import yaml

DEPLOY = files("study.deploy")


def exported(name: str) -> str:
    """Return the lines of a metric on the endpoint of the first node."""
    import ray  # noqa: PLC0415

    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=60) as answer:
        return "\n".join(line for line in answer.read().decode().splitlines() if line.startswith(f"{name}{{"))


@pytest.mark.ray
def test_a_studys_numbers_are_on_rays_prometheus_endpoint(ray_cluster: object) -> None:
    from study.engine.gauges import Gauges  # noqa: PLC0415  # Ray takes seconds to import

    tally = SimpleNamespace(planned=(9, 12), done=5, ended=Counter(completed=3, failed=1, diverged=1))
    Gauges("my study", tally)  # type: ignore[arg-type]  # all that is read of a tally
    wanted = {
        "ray_study_runs_planned": 12, "ray_study_runs_done": 5, "ray_study_runs_failed": 1,
        "ray_study_runs_diverged": 1,
    }  # fmt: skip
    deadline = time.monotonic() + 600  # it takes seconds
    while not all(map(exported, wanted)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for name, value in wanted.items():
        line = exported(name)
        assert 'study="my study"' in line
        assert float(line.split()[-1]) == value


@pytest.mark.ray
def test_numbers_are_set_again_because_ray_forgets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from study.engine import gauges  # noqa: PLC0415  # Ray takes seconds to import

    now, values = [0.0], []
    recorder = SimpleNamespace(set=lambda value, tags: values.append(value))
    monkeypatch.setattr(gauges, "Gauge", lambda *_: recorder)
    tally = SimpleNamespace(planned=(1, 1), done=0, ended=Counter())
    published = gauges.Gauges("my study", tally, clock=lambda: now[0])  # type: ignore[arg-type]
    once = len(values)
    for now[0] in (1.0, 6.0, 7.0, 12.0):
        published.tick()
    assert once == 4
    assert len(values) == 3 * once


@pytest.mark.ray
def test_grafana_asks_for_what_is_published_and_for_all_of_it() -> None:
    from study.engine.gauges import GAUGES  # noqa: PLC0415  # Ray takes seconds to import

    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    variables = [str(variable.get("query")) for variable in dashboard["templating"]["list"]]
    asked = set(re.findall(r"\bray_\w+", " ".join([*queries, *variables])))
    assert asked == {f"ray_{name}" for name in GAUGES}


@pytest.mark.ray
def test_prometheus_is_pointed_at_the_file_that_ray_keeps() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE  # noqa: PLC0415  # Ray takes seconds to import

    [job] = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    [source] = job["file_sd_configs"]
    assert source["files"] == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]

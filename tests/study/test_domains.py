"""Tables, text and graphs: each task keeps what the table of tasks promises, and its model does what its field says."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from matrices import crossed
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from study.data import load_data
from study.data.communities import COMMUNITIES, NODES, draw_graphs
from study.data.corpus import ALPHABET, POSITIONS, VOCABULARY, cut
from study.data.pool import standardized
from study.findings.evidence import gather
from study.plan.agenda import Agenda
from study.plan.cells import cells
from study.records import Job, RunRecord
from study.specs.spec import load_spec
from study.specs.tasks import TASKS, default_factors
from study.tasks import Task, build_task
from study.tasks.examples import examples_of
from study.tasks.graphs import GIN
from study.tasks.task import token_cross_entropy
from study.tasks.text import Transformer
from study.training.scores import sum_of
from study.training.train import take_step
from study.training.trial import run
from wasam_core import WASAM

DOMAINS = ("breast_cancer", "wine", "diabetes", "characters", "communities")
SMALL = {"epochs": 2, "train_size": 60}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return {name: load_data(name) for name in DOMAINS}


def build(data: dict[str, Any], name: str, seed: int = 0, **factors: Any) -> Task:
    return build_task(name, data[name], default_factors(name) | factors, seed, test_seed=11)


def record_of(data: dict[str, Any], name: str, **changes: Any) -> RunRecord:
    job = Job(
        stage="confirm", cell=name, task=name, factors=default_factors(name) | SMALL, family="adamw", epochs_factor=1,
        learning_rate=0.003, rho=0.0, average_start=0.4, average_starts=(0.5,), seed=1000,
        reads=("last", "best", "swa"), test_seed=11,
    )  # fmt: skip
    return run(job.model_copy(update=changes), data[name], "cpu", "0")


@pytest.mark.parametrize("name", DOMAINS)
def test_a_task_keeps_what_the_table_promises(name: str, data: dict[str, Any]) -> None:
    limits = TASKS[name]
    task = build(data, name, train_size=limits.max_train_size)
    assert len(examples_of(task.train, "train")) == limits.max_train_size
    assert task.metric.name == limits.metric
    assert task.classifies == bool(limits.classes)
    inputs, targets = next(examples_of(task.val, "val").batches(8))
    outputs = task.model.eval()(*inputs) if isinstance(inputs, tuple) else task.model.eval()(inputs)
    assert outputs.shape == ((*targets.shape, limits.classes) if limits.classes else targets.shape)


@pytest.mark.parametrize("name", DOMAINS)
def test_a_run_learns_something_and_repeats_itself(name: str, data: dict[str, Any]) -> None:
    epochs = {"epochs": 8} if name == "communities" else {}
    record = record_of(data, name, factors=default_factors(name) | SMALL | epochs)
    assert record.error is None
    last = max((m for m in record.measurements if m.weights == "last"), key=lambda m: m.epoch)
    guess = build(data, name, train_size=60).guess
    assert last.test_loss is not None
    assert last.test_loss < guess.loss
    assert run(record.job, data[name], "cpu", "0").measurements == record.measurements


@crossed(name=DOMAINS, family=["adamw-sam", "m-sam", "sam-on"])
def test_every_kind_of_perturbation_runs(name: str, family: str, data: dict[str, Any]) -> None:
    if family == "sam-on" and TASKS[name].models == ("mlp",):
        pytest.skip("the fully connected net has no normalization")
    assert record_of(data, name, family=family, rho=0.05).error is None


@pytest.mark.parametrize("name", DOMAINS)
def test_the_parts_of_a_seed_share_no_example(name: str, data: dict[str, Any]) -> None:
    """Rows are told apart by their bytes; the tables and the text repeat a few of their own."""
    task = build(data, name, train_size=TASKS[name].max_train_size)
    parts = [examples_of(part, "") for part in (task.train, task.val, task.test())]
    seen: Counter[bytes] = Counter()
    for part in parts:
        inputs, _ = next(part.batches(len(part)))
        tensor = inputs[1] if isinstance(inputs, tuple) else inputs
        seen.update({row.numpy().tobytes() for row in tensor})
    repeated = sum(count > 1 for count in seen.values())
    assert repeated <= (0.01 * len(seen) if name == "characters" else 0)


@pytest.mark.parametrize(
    ("name", "load"), [("breast_cancer", load_breast_cancer), ("wine", load_wine), ("diabetes", load_diabetes)]
)
def test_tables_are_scikit_learns_standardized_without_their_test_part(
    name: str, load: Any, data: dict[str, Any]
) -> None:
    inputs, targets = load(return_X_y=True)
    largest = build(data, name, train_size=TASKS[name].max_train_size)
    known = np.concatenate([largest.train[0], largest.val[0]])  # type: ignore[index]
    unseen, answers = largest.test()
    assert len(known) + len(unseen) == len(inputs)
    np.testing.assert_allclose(known.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(known.std(axis=0), 1, atol=1e-4)
    assert abs(unseen.mean(axis=0)).max() > 0.01
    everything = np.concatenate([known, unseen])
    for column in range(inputs.shape[1]):  # an affine map of the original column
        original = np.sort(inputs[:, column])
        assert np.corrcoef(original, np.sort(everything[:, column]))[0, 1] > 0.9999
    if name != "diabetes":
        labels = np.concatenate([largest.train[1], largest.val[1], answers])  # type: ignore[index]
        np.testing.assert_array_equal(np.bincount(labels), np.bincount(targets))


def test_the_score_of_a_constant_guess_is_that_of_guessing(data: dict[str, Any]) -> None:
    task, pool = build(data, "diabetes"), data["diabetes"]
    known = pool.labels[pool.development(11)]
    targets = torch.from_numpy(standardized(known, known))
    score = sum_of(task.metric, keep=False)
    score.update(torch.zeros_like(targets), targets)
    assert score.result() == pytest.approx(task.guess.score, abs=1e-6)
    assert task.loss(torch.zeros_like(targets), targets).item() == pytest.approx(task.guess.loss, abs=1e-6)


def test_windows_of_a_text_share_no_character_and_keep_its_order() -> None:
    rng = np.random.default_rng(0)
    text = "".join(ALPHABET[index] for index in rng.integers(len(ALPHABET), size=100_000))
    corpus = cut(text)
    for replicate in range(3):
        inputs, targets = corpus.open_test("confirm", replicate)
        np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
        parts = (*corpus.development(replicate), np.concatenate([inputs, targets[:, -1:]], 1))
        places = [text.find("".join(ALPHABET[i] for i in window)) for part in parts for window in part]
        assert min(places) >= 0
        assert min(np.diff(sorted(places))) >= POSITIONS + 1


def test_origin_and_hash_of_the_data_are_in_every_record(data: dict[str, Any]) -> None:
    for task in data:
        assert re.search(r"\w.*, sha256 [0-9a-f]{12}$", record_of(data, task).versions[task])
    assert cut("a" * 30_000).origin != cut("b" * 30_000).origin
    assert cut("é" * 30_000).development(0)[0].max() == VOCABULARY - 1


def test_the_transformer_sees_no_later_character() -> None:
    torch.manual_seed(0)
    model = Transformer().eval()
    ids = torch.randint(VOCABULARY, (3, POSITIONS))
    later = ids.clone()
    later[:, 20:] = (later[:, 20:] + 1) % VOCABULARY
    before, after = model(ids), model(later)
    torch.testing.assert_close(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20], after[:, 20])


def test_the_second_pass_sees_the_dropout_of_the_first() -> None:
    """At a radius of almost 0 a sharpness-aware step is the base step, if its masks are those of the clean pass."""
    ids = torch.randint(VOCABULARY, (8, POSITIONS + 1), generator=torch.Generator().manual_seed(1))
    moved = []
    for rho in (0.0, 1e-7):
        torch.manual_seed(2)
        model = Transformer()
        optimizer = WASAM(model.parameters(), torch.optim.SGD, rho=rho, lr=0.1, model=model)
        take_step(model, optimizer, ids[:, :-1], ids[:, 1:], token_cross_entropy)
        moved.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(moved[0], moved[1], atol=1e-6, rtol=0)


def test_graphs_are_those_of_the_block_model() -> None:
    known, edges, labels = draw_graphs(400, np.random.default_rng(0))
    np.testing.assert_array_equal(edges, edges.transpose(0, 2, 1))
    assert not edges[:, range(NODES), range(NODES)].any()
    np.testing.assert_array_equal(known.sum(axis=1), 1)  # one known node of each community
    graph, node, community = np.nonzero(known)
    np.testing.assert_array_equal(labels[graph, node], community)
    same = labels[:, :, None] == labels[:, None, :]
    same[:, range(NODES), range(NODES)] = False
    apart = labels[:, :, None] != labels[:, None, :]
    assert edges[same].mean() == pytest.approx(0.55, abs=0.01)
    assert edges[apart].mean() == pytest.approx(0.25, abs=0.01)


def test_the_graph_net_does_not_care_how_nodes_are_numbered() -> None:
    torch.manual_seed(0)
    model = GIN().eval()
    known, edges, _ = (torch.from_numpy(part) for part in draw_graphs(5, np.random.default_rng(1)))
    order = torch.randperm(NODES)
    torch.testing.assert_close(
        model(known, edges)[:, order], model(known[:, order], edges[:, order][:, :, order]), atol=1e-5, rtol=1e-5
    )


def test_node_labels_carry_an_exact_share_of_noise(data: dict[str, Any]) -> None:
    clean, noisy = (build(data, "communities", label_noise=share).train for share in (0.0, 0.3))
    assert (clean[1] != noisy[1]).sum() == round(0.3 * clean[1].size)  # type: ignore[index, union-attr]
    assert set(np.unique(noisy[1])) == set(range(COMMUNITIES))  # type: ignore[index]


def test_the_study_of_domains_covers_them() -> None:
    found = cells(load_spec("domains")[0])
    assert len(found) >= 10
    assert set(DOMAINS) < {cell.task for cell in found}


def test_findings_read_tasks_that_have_other_factors() -> None:
    spec = load_spec("domains")[0]
    agenda, records = Agenda(spec), []
    while planned := agenda.next_job():
        record = RunRecord(run_id=planned.run_id, spec_hash=spec.hash, job=planned, status="failed", error="none")
        records.append(record)
    noise = {cell.name: dict(cell.factors).get("label_noise") for cell in gather(spec, records).cells}
    assert noise["diabetes"] is None
    assert noise["wine label_noise=0.3"] == 0.3


def test_a_factor_that_means_nothing_to_a_domain_is_refused() -> None:
    with pytest.raises(ValueError, match="'diabetes' has no such factor"):
        load_spec("domains")[0].problems[2].model_validate({"task": "diabetes", "factors": {"label_noise": 0.3}})

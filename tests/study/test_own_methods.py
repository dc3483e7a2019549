"""Methods of a study's own in its spec: what the table makes of them, what is refused, and that it ends in a page."""

import json
import math
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from synthetic import synthetic_study
from torch import nn

from dashboards import theme, words
from dashboards.report import build_report
from study.data.pool import TaskError
from study.findings import find
from study.plan.cells import cells, searches, tune_job
from study.plan.proposals import propose
from study.plan.replicates import replicate_of
from study.records import Family, Job, Needs, RunRecord
from study.run import main
from study.specs.contenders import contender, contenders
from study.specs.methods import BUILT_IN, FAMILIES, METHODS, family_of
from study.specs.own_methods import PERTURBATIONS
from study.specs.spec import SpecError, StudySpec, json_schema, parse_spec
from study.store.frame import frame_of
from study.tasks import build_task
from study.tasks.groups import groups_of
from study.training.building import build_optimizer
from study.training.preflight import PreflightError, preflight
from study.training.trial import Run, run

HERE = Path(__file__).parent
LION = 'optimizer = "lion_pytorch:Lion"\n'
SPEC = """
name = "mine"
question = "?"
replicates = 2
confirms = 1
{top}
{methods}
[search]
trials = 4
{search}
[[problems]]
task = "{task}"
factors = {{ train_size = 40, batch_size = 10, epochs = 4{factors} }}
"""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(HERE)


def read(methods: str, *, top: str = "", search: str = "", factors: str = "", task: str = "wine") -> StudySpec:
    text = SPEC.format(methods=methods, top=top, search=search, factors=factors, task=task)
    return parse_spec(text, "mine.toml")


def entries(**of: str) -> str:
    return "\n".join(f"[methods.{json.dumps(name)}]\n{text}" for name, text in of.items())


def first_job(spec: StudySpec, family: str) -> Job:
    search = next(one for one in searches(spec, [replicate_of(spec, 1)]) if one.family == family)
    return tune_job(spec, search, 0, propose(spec.search, search, 0, []))


def test_a_list_and_a_table_of_built_in_methods_are_one_study() -> None:
    listed = read("", top='methods = ["SGD", "SWA", "WASAM"]')
    table = read("[methods.SGD]\n[methods.SWA]\n[methods.WASAM]")
    assert listed == table
    assert listed.hash == table.hash
    assert listed.table is table.table is BUILT_IN
    assert "own_methods" not in listed.model_dump()
    assert "optimizers" not in listed.model_dump()
    job = first_job(listed, "base")
    assert not {"own_family", "own_methods", "options"} & set(json.loads(job.model_dump_json(exclude_defaults=True)))


def test_what_is_left_out_is_the_baselines() -> None:
    """The switches on top of an optimizer train with its options, in its ranges, and share its trajectory."""
    rates = "learning_rate = { low = 1e-4, high = 1e-2, log = true }"
    spec = read(
        entries(**{
            "Lion": f"{LION}options = {{ betas = [0.9, 0.99] }}\n{rates}",
            "Lion+SWA": 'average = "swa"\nbaseline = "Lion"',
            "Lion+SAM": LION + 'perturb = "sam"',
            "Lion+SAM+EMA": 'perturb = "sam"\naverage = "ema"\nbaseline = "Lion"',
        }),
        search='of.Lion.weight_decay = { low = 1e-3, high = 1e-1, log = true }\nof."Lion+SAM".rho = 0.05',
    )  # fmt: skip
    table = spec.table
    assert spec.methods == ("Lion", "Lion+SWA", "Lion+SAM", "Lion+SAM+EMA")
    assert [table[name].family for name in spec.methods] == ["Lion", "Lion", "Lion+SAM", "Lion+SAM"]
    assert {table[name].baseline for name in spec.methods} == {"Lion"}
    assert table.families["Lion"] == Family("lion_pytorch:Lion", options=(("betas", (0.9, 0.99)),))
    assert table.families["Lion+SAM"] == replace(table.families["Lion"], rule="sam")
    for family in ("Lion", "Lion+SAM"):
        assert spec.range_of("learning_rate", family).high == 1e-2
        assert spec.range_of("weight_decay", family).low == 1e-3
        assert "weight_decay" in spec.search.searched_by(family)
    assert spec.range_of("rho", "Lion+SAM").fixed
    assert spec.search.searched_by("base") == ("learning_rate", "rho", "average_start")
    assert {one.family for one in contenders(spec)} == {"Lion", "Lion+SAM"}


def test_a_switch_on_a_built_in_base_is_the_built_in_trajectory() -> None:
    """Only its average is new: it trains as ASAM does, with ASAM's scale of radii, and its runs are shared."""
    spec = read(entries(SGD="", ASAM="", **{"ASAM+LAWA": 'perturb = "asam"\naverage = "lawa"\nbaseline = "SGD"'}))
    assert spec.table["ASAM+LAWA"].family == "asam"
    assert first_job(spec, "asam").own_family is None
    adamw = read(entries(AdamW="", Mine='perturb = "sam"\naverage = "lawa"\nbaseline = "AdamW"'))
    assert adamw.table["Mine"].family == "adamw-sam"


@pytest.mark.parametrize("perturb", PERTURBATIONS)
def test_every_perturbation_is_that_of_the_built_in_family(perturb: str) -> None:
    spec = read(entries(SGD="", X=f'optimizer = "a.b:C"\nperturb = "{perturb}"\nbaseline = "SGD"\naverage = "swa"'))
    found = spec.table.family_of("X")
    alike = FAMILIES["base" if perturb == "none" else perturb]
    assert found == replace(alike, base="a.b:C", source="")
    assert found.passes == alike.passes


def test_a_spec_survives_being_written_and_read() -> None:
    methods = entries(
        SGD="",
        X=LION + 'options = { betas = [0.9, 0.99], use = true, k = 3 }\nbaseline = "SGD"\nschedule = "constant"\n'
        "learning_rate = { low = 0.001, high = 0.1, log = true }",
    )
    spec = read(methods, search="of.X.beta = { low = 0.1, high = 0.2 }\nof.X.weight_decay = { low = 0.0, high = 0.1 }")
    again = StudySpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert again.hash == spec.hash
    assert again.table.families["X"].options == (("betas", (0.9, 0.99)), ("use", True), ("k", 3))
    needed = spec.model_copy(update={"optimizers": {"X": Needs(closure=True, passes=2.5)}})
    assert needed.hash == spec.hash
    assert needed.table.relative_passes("X") == 2.5
    assert first_job(needed, "X").run_id == first_job(spec, "X").run_id
    jsonschema.validate({"name": "s", "question": "?", "methods": {"SGD": {}, "X": {"optimizer": "a:B"}}, "search": {
        "trials": 2}, "problems": [{"task": "wine"}]}, json_schema())  # fmt: skip


def test_the_example_of_the_docs_is_a_spec() -> None:
    text = (
        (resources.files("study.specs") / "README.md")
        .read_text(encoding="utf-8")
        .partition("## Methods of your own")[2]
    )
    methods, _, search = text.partition("```toml\n")[2].partition("\n```")[0].partition("[search]\n")
    spec = read(methods, search=search)
    assert spec.methods == ("SGD", "Lion", "Lion+SWA", "WSAM", "Schedule-Free")
    assert {name: spec.table[name].baseline for name in spec.methods[2:]} == {
        "Lion+SWA": "Lion", "WSAM": "SGD", "Schedule-Free": "SGD"
    }  # fmt: skip


SWA = 'average = "swa"\nbaseline = "Lion"'
WRONG = (
    (entries(SGD="a = 1", SWA=""), {}, "methods.SGD was given with settings; SGD is a built-in method"),
    (entries(SGD="", SWX=""), {}, "methods.SWX was given empty; 'SWX' is no built-in method"),
    (entries(SGD="", X=LION + "foo = 1"), {}, "methods.X.foo was given, which is not a key"),
    (entries(SGD="", X=LION + "options = 3"), {}, "methods.X.options = 3 was given"),
    (entries(SGD="", X=LION + "options = { a = { b = 1 } }"), {}, "methods.X.options"),
    (entries(SGD="", X=LION + "options = { lr = 0.1 }"), {}, "methods.X.options: lr was given; the study itself gives"),
    (entries(SGD="", X='optimizer = "lion"'), {}, "it must be package:Class"),
    (
        entries(SGD="", X=LION + 'base = "sgd"'),
        {},
        "methods.X.base = 'sgd' was given; allowed are SGD, AdamW, or package:Class",
    ),
    (
        entries(SGD="", X=LION + 'perturb = "up"\nbaseline = "SGD"'),
        {},
        "methods.X.perturb = 'up' was given; allowed are none, sam",
    ),
    (entries(SGD="", X=LION + 'average = "mean"\nbaseline = "SGD"'), {}, "methods.X.average = 'mean' was given"),
    (entries(SGD="", X=LION + 'schedule = "up"\nbaseline = "SGD"'), {}, "methods.X.schedule = 'up' was given"),
    (entries(SGD="", X=LION + 'baseline = "Y"'), {}, "baseline = 'Y'; a baseline perturbs"),
    (entries(X=LION + 'baseline = "SGD"'), {}, "X is held against 'SGD': add that too"),
    (
        entries(SGD="", SWA="", X=LION + 'baseline = "SWA"'),
        {},
        "baseline = 'SWA'; a baseline perturbs and averages nothing",
    ),
    (
        entries(A=LION + 'baseline = "B"', B=LION + 'baseline = "A"'),
        {},
        "'B'; a baseline perturbs and averages nothing and is itself held against nothing; allowed are SGD, AdamW.",
    ),
    (entries(SGD="", Lion=LION + 'baseline = "SGD"', X=SWA), {}, "baseline = 'Lion'; a baseline perturbs"),
    (
        entries(Lion=LION, X=SWA.replace("Lion", "X") + "\n" + LION),
        {},
        "baseline = 'X'; a baseline perturbs and averages nothing",
    ),
    (entries(Lion=LION), {}, "at least one method beside the baseline is needed"),
    (entries(Lion=LION, X='average = "swa"'), {}, "names neither an optimizer nor a baseline"),
    (
        entries(SGD="", X='average = "swa"\noptimizer = "a:B"'),
        {},
        "X has no baseline, and none would be one with its optimizer 'a:B'",
    ),
    (
        entries(A=LION, B=LION + "options = { betas = [0.1, 0.2] }", X=LION + 'average = "swa"'),
        {},
        "X has no baseline, and A and B would be one",
    ),
    (entries(SGD="", X='options = { a = 1 }\nbaseline = "SGD"'), {}, "settings of an optimizer and none"),
    (entries(SGD="", X='perturb = "sam"\naverage = "swa"\nbaseline = "SGD"'), {}, "the same as 'WASAM'"),
    (entries(Lion=LION, A=SWA, B=SWA), {}, "methods.B was given, which is the same as 'A'"),
    (entries(**{"sgd": LION}), {}, "there is 'SGD' already, which differs in capital letters"),
    (entries(**{"Base": LION}), {}, "there is 'base' already"),
    (entries(**{"A<b>": LION}), {}, "a method's name has letters, digits, blanks"),
    (entries(**{"A" * 41: LION}), {}, "at most 40"),
    (entries(**{"Lion best": LION}), {}, "'best' is what the study calls something else"),
    (entries(Lion=LION, X=SWA), {"search": "of.X.learning_rate = 0.1"}, "X trains as Lion"),
    (entries(Lion=LION, X=SWA), {"search": "of.sam.beta = 0.1"}, "a built-in family has ranges of learning_rate, rho"),
    (entries(Lion=LION, X=SWA), {"search": "of.Lion.lr = 0.1"}, "the rate is learning_rate"),
    (entries(Lion=LION, X=SWA), {"search": "of.Lion.seed = 0.1"}, "what the study itself calls something"),
    (entries(Lion=LION + "options = { beta = 1 }", X=SWA), {"search": "of.Lion.beta = 0.1"}, "options fixes it"),
    (
        entries(Lion=LION + "learning_rate = 0.1", X=SWA),
        {"search": "of.Lion.learning_rate = 0.2"},
        "another range already",
    ),
    (entries(SGD="", SWA=""), {"factors": ", gradient_accumulation_steps = 3"}, "it must divide batch_size = 10"),
    (entries(SGD="", SWA=""), {"factors": ", gradient_accumulation_steps = 0"}, "a whole number from 1"),
    (entries(SGD="", SWA=""), {"factors": ', schedule = "my schedule"'}, "or a function of your own"),
)


@pytest.mark.parametrize(("methods", "where", "sentence"), WRONG, ids=range(len(WRONG)))
def test_what_does_not_fit_is_one_sentence(methods: str, where: dict[str, str], sentence: str) -> None:
    with pytest.raises(SpecError) as refused:
        read(methods, **where)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "own_methods" not in str(refused.value)


def test_a_cheap_method_may_train_longer_and_a_dear_one_may_not() -> None:
    """Lengths follow the passes that were counted; under budget T, a slow method's own time is the ceiling."""
    spec = read(entries(SGD="", X=LION + 'baseline = "SGD"'), top='budgets = ["E", "G", "T"]')
    assert contender(spec, "X", "G").lengths == (1.0, 2.0)
    dear = spec.model_copy(update={"optimizers": {"X": Needs(closure=True, passes=2.0)}})
    assert contender(dear, "X", "G").lengths == (1.0,)
    slow = spec.model_copy(update={"reference_times": {"base": 1.0, "X": 3.0}})
    assert contender(slow, "X", "T").lengths == (1.0,)
    assert spec.model_copy(update={"optimizers": {"X": Needs(passes=2.1)}}).table.relative_passes("X") == 2.1
    with pytest.raises(ValueError, match=r"gradient_ceiling = 2 was given; X takes 2\.1 times"):
        spec.model_copy(update={"optimizers": {"X": Needs(passes=2.1)}}).check_costs()


def test_another_optimizer_that_scores_alike_is_not_the_baseline_switched_off() -> None:
    spec, records = synthetic_study(methods=("SGD", "SWA"), runs=0)
    assert not records
    assert BUILT_IN.families["base"].trains_with(BUILT_IN.families["sam"])
    assert not BUILT_IN.families["base"].trains_with(BUILT_IN.families["adamw"])
    own = read(entries(SGD="", X=LION + 'baseline = "SGD"')).table
    assert not own.family_of("X").trains_with(own.family_of("SGD"))
    assert spec.table is BUILT_IN


def test_the_page_shows_own_methods_with_marks_and_words_of_their_own() -> None:
    spec = read(entries(SGD="", X=LION + 'options = { betas = [0.9, 0.99] }\nbaseline = "SGD"', Y='average = "ema"\n'
                        'perturb = "sam"\nbaseline = "SGD"\n' + LION))  # fmt: skip
    with theme.showing(spec.table):
        assert theme.style_of("X") == theme.style_of("X best") == theme.own_style(0)
        assert theme.style_of("Y") == theme.own_style(1)
        assert words.method_in_words("X") == (
            "A method of this study's own: lion_pytorch:Lion with betas = [0.9, 0.99], without averaging."
        )
        assert "perturbed as SAM does, read through an exponential moving average" in words.method_in_words("Y")
        assert words.method_in_words("SGD") == words.METHODS_IN_WORDS["SGD"]
    assert theme.style_of("X") not in theme.STYLE.values()


@pytest.mark.slow
def test_a_study_of_own_methods_is_followed_to_its_page_before_it_starts() -> None:
    """What is made of its records holds its methods: findings, frame and page of what the preflight measured."""
    spec = read(
        entries(
            SGD="", SWA="",
            Sign='optimizer = "own_optimizers:SignSGD"\nlearning_rate = { low = 1e-3, high = 1e-2, log = true }',
            **{"Sign+SAM+LAWA": 'perturb = "sam"\naverage = "lawa"\nbaseline = "Sign"'},
            Peer='optimizer = "pytorch_optimizer:SAM"\nbase = "SGD"',
        ),
        task="own_tasks:tensors", search="of.Sign.momentum = { low = 0.1, high = 0.9 }\nof.Peer.rho = 0.05",
    )  # fmt: skip
    pages: list[str] = []

    def conclude(small: StudySpec, records: Any) -> None:
        findings, frame = find(small, records), frame_of(records)
        assert findings.table == small.table
        assert all(RunRecord.model_validate_json(one.model_dump_json()) == one for one in records)
        assert {*frame["method"]} >= {"SGD", "SWA", "Sign", "Sign+SAM+LAWA", "Peer"}
        assert set(frame.loc[frame["family"] == "Sign", "momentum"].between(0.1, 0.9)) == {True}
        pages.append(build_report(findings, frame, records=records))

    found = preflight(spec, conclude)
    assert found.spec.optimizers["Peer"].passes == 2
    assert any(note.startswith("Peer: pytorch_optimizer:SAM makes 2 passes a step") for note in found.notes)
    (page,) = pages
    for name in ("Sign", "Sign+SAM+LAWA", "Peer"):
        assert f">{name}<" in page
    assert "A method of this study's own: own_optimizers:SignSGD, without averaging." in page.replace("&#39;", "'")


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        ("below_zero", "at a share of 0.51 of the steps; it must return"),
        ("nowhere", "is 0 from the first step to the last"),
        ("worded", "returned 'slow' at a share of 0"),
        ("unready", "failed at a share of 0"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_a_schedule_that_is_none_is_refused(schedule: str, sentence: str) -> None:
    spec = read(entries(SGD="", SWA=""), factors=f', schedule = "own_optimizers:{schedule}"')
    with pytest.raises(PreflightError, match=re.escape(sentence)):
        preflight(spec)


def trained(spec: StudySpec, family: str = "base") -> RunRecord:
    record = run(first_job(spec, family), None, "cpu", "0")
    assert record.error is None
    return record


def test_a_schedule_of_ones_own_is_followed_and_its_source_kept() -> None:
    name = "own_optimizers:one_cycle"
    spec = read(entries(SGD="", SWA=""), task="own_tasks:tensors", factors=f', schedule = "{name}"')
    linear, own = (
        trained(read(entries(SGD="", SWA=""), task="own_tasks:tensors", factors=f', schedule = "{of}"'))
        for of in ("linear", name)
    )
    assert linear.measurements != own.measurements
    assert own.own_sources[name].startswith("own_optimizers.py=")
    assert own.sources.keys() == {"own_tasks:tensors", name}
    assert linear.own_sources == {}
    preflight(spec)


def test_a_methods_own_schedule_holds_for_it_alone() -> None:
    methods = entries(SGD="", X='optimizer = "torch.optim:SGD"\nschedule = "constant"\nbaseline = "SGD"\n'
                      "options = { momentum = 0.9 }")  # fmt: skip
    spec, constant = (
        read(methods, task="own_tasks:tensors", factors=f', schedule = "{of}"') for of in ("cosine", "constant")
    )
    assert trained(spec, "X").measurements == trained(constant).measurements != trained(spec).measurements


def weights_after(spec: StudySpec, family: str = "base") -> list[torch.Tensor]:
    one = Run(first_job(spec, family), None, "cpu", "0")
    one.advance()
    return [p.detach().clone() for p in one._model.parameters()]


@pytest.mark.parametrize("family", ["base", "sam", "X"])
def test_parts_of_a_batch_make_the_step_of_the_batch(family: str) -> None:
    """Without normalization or dropout a step in parts is the step on the whole, in both passes and for peers."""
    methods = entries(SGD="", SAM="", X='optimizer = "pytorch_optimizer:WSAM"\nbase = "SGD"\nbaseline = "SGD"')
    whole, parts = (
        read(methods, task="own_optimizers:matrices", factors=more, search="unperturbed_share = 0.0").model_copy(
            update={"optimizers": {"X": Needs(closure=True, passes=2.0)}}
        )
        for more in ("", ", gradient_accumulation_steps = 5")
    )
    for one, other in zip(weights_after(whole, family), weights_after(parts, family), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    costs = [run(first_job(of, family), None, "cpu", "0").gradient_evaluations for of in (whole, parts)]
    assert costs[0] == costs[1] == 160 * (1 if family == "base" else 2)


def test_parts_have_batch_statistics_of_their_own() -> None:
    spec, parts = (
        read(entries(SGD="", SWA=""), task="own_tasks:tensors", factors=more)
        for more in ("", ", gradient_accumulation_steps = 2")
    )
    assert trained(spec).measurements != trained(parts).measurements


@pytest.mark.parametrize("family", ["base", "sam", "adamw", "X"])
def test_groups_of_a_task_follow_the_schedule_at_their_own_rate(family: str) -> None:
    """Of the built-in and of brought optimizers: the head's step is that of a tenth of the rate, at every step."""
    methods = entries(SGD="", SAM="", AdamW="", X='optimizer = "torch.optim:SGD"\noptions = { momentum = 0.9 }\n'
                      'baseline = "SGD"', Y='optimizer = "torch.optim:AdamW"\nbaseline = "AdamW"')  # fmt: skip
    spec = read(methods, task="own_optimizers:grouped", factors=', schedule = "linear"')
    one = Run(first_job(spec, family), None, "cpu", "0")
    one.advance()
    groups = one._optimizer.param_groups
    assert [group.get("lr_scale", 1.0) for group in groups] == [1.0, 0.1]
    assert groups[1]["lr"] == pytest.approx(0.1 * groups[0]["lr"])
    assert groups[1]["weight_decay"] == 0.0 < groups[0]["weight_decay"]
    assert [len(group["params"]) for group in groups] == [1, 1]
    assert math.isfinite(groups[0]["lr"])


def test_groups_and_normalization_layers_cut_each_other() -> None:
    """SAM-ON perturbs what normalization layers hold, in whatever group it is."""

    def head_apart(model: Any) -> list[dict[str, Any]]:
        head = {*model.head.parameters()}
        return [
            {"params": [p for p in model.parameters() if p not in head]},
            {"params": [*head], "lr_scale": 0.1},
        ]

    task = replace(build_task("own_tasks:tensors", None, {"train_size": 40}, 0, 0), parameter_groups=head_apart)
    job = first_job(read(entries(SGD="", **{"SAM-ON": ""}), task="own_tasks:tensors"), "sam-on")
    job = job.model_copy(update={"rho": 0.5})
    groups = build_optimizer(job, task.model, task).param_groups
    held = {(group["rho"], group.get("lr_scale", 1.0)): len(group["params"]) for group in groups}
    assert held == {(0.5, 1.0): 2, (0.0, 1.0): 2, (0.0, 0.1): 2}


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (lambda model: 3, "something else than a list of dicts"),
        (lambda model: [{"params": model.enter.parameters()}], "left out head.weight"),
        (lambda model: [{"params": model.parameters()}, {"params": model.head.parameters()}], "a parameter twice"),
        (lambda model: [{"params": [nn.Parameter(torch.zeros(2))]}], "one that the model does not have"),
        (lambda model: [{"params": model.parameters(), "lr": 0.1}], "gave a group lr = 0.1, which is searched"),
        (lambda model: [{"params": model.parameters(), "rho": 0.1}], "gave a group rho = 0.1"),
        (lambda model: [{"params": model.parameters(), "lr_scale": 0.0}], "lr_scale = 0.0; it must be a number"),
    ],
)  # fmt: skip
def test_groups_that_are_none_are_refused(groups: Any, sentence: str) -> None:
    task = replace(build_task("own_optimizers:matrices", None, {"train_size": 40}, 0, 0), parameter_groups=groups)
    with pytest.raises(TaskError, match=re.escape(sentence)):
        groups_of(task, task.model)


def test_clipping_acts_on_brought_optimizers_too() -> None:
    methods = entries(SGD="", X='optimizer = "torch.optim:SGD"\noptions = { momentum = 0.9 }\nbaseline = "SGD"')
    free, clipped = (read(methods, task="own_tasks:tensors", factors=more) for more in ("", ", clip_norm = 0.01"))
    assert trained(clipped).measurements == trained(clipped, "X").measurements != trained(free, "X").measurements


@pytest.mark.parametrize(
    ("methods", "where", "sentence"),
    [
        (entries(SGD="", X='optimizer = "no_such:Thing"\nbaseline = "SGD"'), {}, "there is no module 'no_such'"),
        (entries(SGD="", X='optimizer = "torch.optim:No"\nbaseline = "SGD"'), {}, "torch.optim has no function 'No'"),
        (
            entries(SGD="", X=LION + 'options = { b = 1 }\nbaseline = "SGD"'),
            {},
            "the option 'b', which it does not take",
        ),
        (entries(SGD="", X=LION + 'baseline = "Y"'), {}, "baseline = 'Y'; a baseline perturbs"),
        (
            entries(SGD="", X=LION + 'options = { weight_decay = 0.1 }\nbaseline = "SGD"'),
            {"search": "weight_decay = { low = 0.001, high = 0.1 }"},
            "fixes weight_decay, which is searched",
        ),
        (
            entries(SGD="", X='optimizer = "pytorch_optimizer:SAM"\nbase = "SGD"'),
            {"top": "gradient_ceiling = 1.5"},
            "gradient_ceiling = 1.5 was given; X takes 2 times",
        ),
    ],
)
def test_a_wrong_entry_ends_the_command_before_anything(
    methods: str, where: dict[str, str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = {"top": "", "search": "", "factors": "", "task": "wine"} | where
    Path("mine.toml").write_text(SPEC.format(methods=methods, **given))
    assert main(["mine.toml"]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["mine.toml"]


def test_every_built_in_method_is_in_every_table() -> None:
    table = read(entries(SGD="", X=LION + 'baseline = "SGD"')).table
    assert [*table][: len(METHODS)] == [*METHODS]
    assert {name: table.families[name] for name in FAMILIES} == FAMILIES
    assert table.last_of("sam") == "SAM"
    assert table.averages_of("base") == ["SWA", "EMA", "LAWA"]
    assert "swa" not in table.reading("X")
    assert family_of(first_job(read(entries(SGD="", SWA="")), "base")) == FAMILIES["base"]
    assert len(cells(read(entries(SGD="", SWA="")))) == 1

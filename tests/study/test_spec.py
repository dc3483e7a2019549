"""A spec is checked at birth, and each mistake gets one sentence that names the key, the given and the allowed."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from study.specs.factors import FACTORS, OF_SOME_TASKS, OPTIONAL
from study.specs.spec import SearchRange, SpecError, StudySpec, builtin_specs, load_spec, parse_spec, with_seed
from study.specs.tasks import TASKS, check_factor, default_factors

GOOD = """
name = "mine"
question = "Does it help?"
replicates = 6
confirms = 2
[search]
trials = 4
[[problems]]
task = "digits"
factors.label_noise = [0.0, 0.3]
"""


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def with_line(line: str) -> str:
    return f"{line}\n{GOOD}"


@pytest.mark.parametrize(
    ("text", "key", "given_", "allowed"),
    [
        (changed('name = "mine"', 'name = "../mine"'), "name", "../mine", "pattern"),
        (changed('name = "mine"\n', ""), "name", "missing", "add it"),
        (changed('"Does it help?"', '""'), "question", "''", "at least 1 character"),
        (changed("replicates = 6", "replicates = 0"), "replicates", "0", "greater than or equal to 1"),
        (changed("replicates = 6", "replicates = 2.5"), "replicates", "2.5", "integer"),
        (changed("confirms = 2", "confirms = -1"), "confirms", "-1", "greater than or equal to 1"),
        (with_line("confirm_seeds = 6"), "confirm_seeds", "6", "replicates = 10"),
        (with_line("confirm_seeds = 6"), "protocol 1", "6", "confirms = 3"),
        (changed("replicates = 6\nconfirms = 2", "confirm_seeds = 5"), "confirm_seeds", "5", "one tuning"),
        (with_line("seed = -1"), "seed", "-1", "greater than or equal to 0"),
        (with_line(f"seed = {2**32}"), "seed", str(2**32), "less than"),
        (with_line('weights = ["first"]'), "weights, entry 1", "'first'", "'last' or 'best'"),
        (with_line('weights = ["swa"]'), "weights, entry 1", "'swa'", "'last' or 'best'"),
        (with_line("weights = []"), "weights", "[]", "at least 1 item"),
        (with_line('weights = ["best", "best"]'), "weights", "'best', 'best'", "once"),
        (with_line("gradient_ceiling = 0.9"), "gradient_ceiling", "0.9", "greater than or equal to 1"),
        (with_line("gradient_ceiling = 1.5"), "gradient_ceiling", "1.5", "SAM takes 2 times"),
        (
            with_line('methods = ["SGD", "late SAM"]\ngradient_ceiling = 1.1'),
            "gradient_ceiling", "1.1", "late SAM takes 1.2 times",
        ),
        (changed("trials = 4", 'sampler = "tpe"\ntrials = 7'), "search", "trials = 7", '8 trials on: give as many'),
        (with_line("delta = -0.01"), "delta", "-0.01", "greater than 0"),
        (changed("[[problems]]", "[[problems]]\ndelta = 0.0"), "[[problems]] 1: delta", "0", "greater than 0"),
        (GOOD + '[[problems]]\ntask = "digits"\ndelta = 0.1', "delta = 0.1 and none", "'digits'", "one δ"),
        (
            changed("[[problems]]", "[[problems]]\ndelta = 0.2") + '[[problems]]\ntask = "digits"\ndelta = 0.1',
            "delta = 0.1 and 0.2", "'digits'", "the same, or none",
        ),
        (with_line('methods = ["SGD", "SGDX"]'), "methods", "SGDX", "SGD, SWA, EMA, LAWA, SAM, WASAM"),
        (with_line('methods = ["SAM", "SWA"]'), "methods", "'SAM', 'SWA'", "held against 'SGD'"),
        (with_line('methods = ["SGD", "SAM", "SAM"]'), "methods", "SAM", "once"),
        (with_line('budgets = ["E", "X"]'), "budgets, entry 2", "'X'", "'E'"),
        (with_line('budgets = ["E"]'), "spec", "primary_budget = 'G'", "budgets"),
        (with_line("delta = 0"), "delta", "0", "greater than 0"),
        (with_line("alpha = 0.9"), "alpha", "0.9", "less than 0.5"),
        (with_line("alpha = nan"), "alpha", "nan", "finite"),
        (with_line("average_starts = [1.5]"), "average_starts, entry 1", "1.5", "less than 1"),
        (changed("trials = 4", "trials = 0"), "search.trials", "0", "greater than or equal to 1"),
        (changed("trials = 4", 'sampler = "grid"'), "search.sampler", "grid", "'qmc' or 'tpe'"),
        (changed("trials = 4", "trials = 4\nrho = {low=0.5,high=0.1}"), "search.rho", "low = 0.5", "not be above high"),
        (changed("trials = 4", "trials = 4\nrho = {low=0.0,high=0.1}"), "search.rho", "'low': 0.0", "be above 0"),
        (
            changed("trials = 4", "trials = 4\nlearning_rate = {low=-1.0,high=0.1,log=true}"),
            "search.learning_rate", "low = -1", "low > 0",
        ),
        (changed("trials = 4", "trials = 4\naverage_start = {low=0.5,high=1.5}"), "search", "1.5", "between 0 and 1"),
        (changed("trials = 4", "trails = 4"), "search.trials", "missing", "add it"),
        (changed('task = "digits"', 'task = "imagenet"'), "[[problems]] 1: task", "imagenet", "digits, mnist1d"),
        (changed("factors.label_noise", "factors.noise"), "[[problems]] 1", "factors.noise", "label_noise"),
        (changed("[0.0, 0.3]", "[0.0, 1.0]"), "[[problems]] 1", "1.0", "below 1"),
        (changed("[0.0, 0.3]", "[]"), "[[problems]] 1", "[]", "at least one"),
        (changed("[0.0, 0.3]", "[0.3, 0.3]"), "[[problems]] 1", "[0.3, 0.3]", "once"),
        (changed("[0.0, 0.3]", '"a lot"'), "[[problems]] 1", "a lot", "a number from 0"),
        (changed("label_noise = [0.0, 0.3]", 'schedule = "plateau"'), "[[problems]] 1", "plateau", '"cosine"'),
        (changed("label_noise = [0.0, 0.3]", 'model = "vit"'), "[[problems]] 1", "vit", "conv, mlp"),
        (changed("label_noise = [0.0, 0.3]", "train_size = 5000"), "[[problems]] 1", "5000", "1000"),
        (changed("label_noise = [0.0, 0.3]", "batch_size = 1001"), "[[problems]] 1", "1001", "train_size"),
        (changed("label_noise = [0.0, 0.3]", "epochs = true"), "[[problems]] 1", "True", "whole number"),
        (changed("[[problems]]", "[[problems]]\nfactor = 3"), "[[problems]] 1: factor", "not a key", "spelling"),
        (changed("[[problems]]", "[problems]"), "problems", "digits", "tuple"),
        ("name = ", "mine.toml", "TOML", "mend"),
    ],
)  # fmt: skip
def test_each_mistake_gets_one_sentence(text: str, key: str, given_: str, allowed: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "mine.toml")
    message = str(caught.value)
    assert key in message
    assert given_ in message
    assert allowed in message
    assert "\n" not in message


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(SpecError, match=r"quick, smoke, standard, atlas/characters.*claims/01-label-noise"):
        load_spec("quikc")


def test_a_file_that_is_no_text_is_refused(tmp_path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="UTF-8"):
        load_spec(str(path))


def test_the_hash_follows_content_and_not_layout() -> None:
    spec = parse_spec(GOOD, "a")
    assert parse_spec("# a comment\n" + GOOD.replace(" = ", "="), "b").hash == spec.hash
    assert parse_spec(changed("0.3", "0.31"), "c").hash != spec.hash


@pytest.mark.parametrize("name", builtin_specs())
def test_builtin_specs_are_valid_and_named_as_their_file(name: str) -> None:
    assert load_spec(name)[0].name == name.replace("claims/", "claim-").replace("atlas/", "atlas-")


def test_every_problem_of_a_task_may_name_its_delta_and_each_task_its_own() -> None:
    text = changed("[[problems]]", "[[problems]]\ndelta = 0.02")
    text += '[[problems]]\ntask = "digits"\ndelta = 0.02\nfactors.epochs = 5\n[[problems]]\ntask = "mnist1d"\n'
    spec = parse_spec(text, "mine")
    assert (spec.delta_of("digits"), spec.delta_of("mnist1d")) == (0.02, spec.delta)


def test_a_ceiling_binds_where_it_is_asked_for_alone() -> None:
    line = 'budgets = ["E"]\nprimary_budget = "E"\ngradient_ceiling = 1.0'
    assert parse_spec(with_line(line), "mine").gradient_ceiling == 1
    assert parse_spec(with_line('methods = ["SGD", "SWA"]\ngradient_ceiling = 1.0'), "mine").gradient_ceiling == 1
    assert parse_spec(with_line("gradient_ceiling = 2"), "mine").gradient_ceiling == 2


# Specs of protocol 1 as results folders hold them, with the hash that stands above them there.
OLD = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parent / "data" / "protocol-1").iterdir())
}


@pytest.mark.parametrize("name", OLD)
def test_a_spec_of_protocol_1_is_read_from_its_folder_and_begun_nowhere(name: str) -> None:
    header, _, text = OLD[name].partition("\n")
    spec = parse_spec(text, name, frozen=True)
    assert header == f"# spec hash: {spec.hash}"
    assert (spec.protocol, spec.replicates, spec.weights, spec.one_tuning) == (1, 1, ("last",), True)
    assert spec.confirms == spec.confirm_seeds
    with pytest.raises(SpecError, match=r"confirm_seeds = \d+ was given, .*replicates = 10 .*confirms = 3 "):
        parse_spec(text, name)


@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(sorted(builtin_specs())),
)
def test_another_seed_changes_the_seed_and_nothing_else(seed: int, name: str) -> None:
    text = builtin_specs()[name]
    spec, moved = parse_spec(text, name), parse_spec(with_seed(text, seed), name)
    assert moved == spec.model_copy(update={"seed": seed})
    assert (moved.hash == spec.hash) == (seed == spec.seed)
    assert with_seed(with_seed(text, 5), seed) == with_seed(text, seed)


@given(low=st.floats(1e-6, 1e3), factor=st.floats(1.01, 1e4), unit=st.floats(0, 1), log=st.booleans())
def test_at_and_position_are_inverse(low: float, factor: float, unit: float, log: bool) -> None:
    searched = SearchRange(low=low, high=low * factor, log=log)
    value = searched.at(unit)
    assert searched.position(value) == pytest.approx(unit, abs=1e-6)
    assert low * (1 - 1e-9) <= value <= low * factor * (1 + 1e-9)


def test_the_outer_twentieth_is_the_edge() -> None:
    searched = SearchRange(low=0.01, high=1.0, log=True)
    positions = {0.0: True, 0.04: True, 0.06: False, 0.5: False, 0.94: False, 0.96: True, 1.0: True}
    assert {unit: searched.at_edge(searched.at(unit)) for unit in positions} == positions
    assert math.isclose(searched.at(0.5), 0.1)


def test_every_task_has_a_default_for_every_factor() -> None:
    for task in TASKS:
        limits = TASKS[task]
        without = {*OPTIONAL, *limits.without, *(name for name in OF_SOME_TASKS if name not in limits.defaults)}
        if task == "image-folder":
            without.add("train_size")  # how many images a folder holds is known to its owner alone
        assert list(default_factors(task)) == [name for name in FACTORS if name not in without]
        for name, value in default_factors(task).items():
            check_factor(name, value, task)


@pytest.mark.parametrize(
    ("methods", "task", "factors", "reason"),
    [
        (["SGD", "SAM"], "digits", {"ascent_batch": [5, 25]}, "m-SAM alone"),
        (["AdamW", "AdamW+SAM"], "digits", {"momentum": [0.0, 0.9]}, "SGD alone"),
        (["SGD", "SAM"], "digits", {"norm": ["batch", "none"], "model": "mlp"}, "no normalization"),
        (["SGD", "SAM"], "digits", {"validation_label_noise": ["same", "none"]}, "above 0"),
        (["SGD", "SAM"], "my_task:build", {"train_size": 100, "ascent_batch": [5, 25]}, "m-SAM alone"),
        (["SGD", "SAM", "m-SAM"], "digits", {"ascent_batch": [5, 25]}, ""),
        (["SGD", "AdamW", "AdamW+SAM"], "digits", {"momentum": [0.0, 0.9]}, ""),
        (["SGD", "SAM"], "digits", {"validation_label_noise": ["same", "none"], "label_noise": [0.0, 0.4]}, ""),
        (["SGD", "SAM"], "digits", {"ascent_batch": 5, "clip_norm": [0.0, 1.0]}, ""),
        (["SGD", "SAM"], "digits", {"norm": ["batch", "none"], "model": ["conv", "mlp"]}, ""),
    ],
)
def test_cells_that_differ_in_their_names_alone_are_refused(
    methods: list[str], task: str, factors: dict[str, Any], reason: str
) -> None:
    content = {
        "name": "s", "question": "?", "methods": methods, "replicates": 2, "search": {"trials": 2, "sampler": "qmc"},
        "problems": [{"task": task, "factors": factors}],
    }  # fmt: skip
    if not reason:
        StudySpec.model_validate(content)
        return
    with pytest.raises(ValidationError, match=reason):
        StudySpec.model_validate(content)
    StudySpec.model_validate(content, context={"frozen": True})  # a study that has them is read


def test_all_mistakes_are_told_at_once_where_the_toml_has_them_and_what_was_meant() -> None:
    text = """
        name = "x"
        metods = ["SGD"]
        replicates = "ten"
        primary_budget = "Q"
        [search]
        samplr = "qmc"
        trials = 0
        [[problems]]
        task = "digits"
        [[problems]]
        tsk = "digits"
    """
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "mine.toml")
    message = str(caught.value)
    assert message.startswith("mine.toml: 8 mistakes. (1) ")
    for told in (
        "metods was given, which is not a key of a spec there; did you mean methods?",
        "question is missing; add it.",
        "replicates = 'ten' was given",
        "primary_budget = 'Q' was given; input should be 'E', 'G' or 'T'.",
        "search.samplr was given, which is not a key of a spec there; did you mean sampler?",
        "search.trials = 0 was given; input should be greater than or equal to 1.",
        "[[problems]] 2: task is missing; add it.",
        "[[problems]] 2: tsk was given, which is not a key of a spec there; did you mean task?",
    ):
        assert told in message


@pytest.mark.parametrize("given", ["true", "false"])
@pytest.mark.parametrize(
    "key",
    ["replicates", "confirms", "seed", "delta", "alpha", "search.trials", "search.rho", "search.rho.low", "name",
     "problems.delta", "methods.Lion.learning_rate"],
)  # fmt: skip
def test_a_switch_is_no_number(key: str, given: str) -> None:
    content = {
        "name": "s", "question": "?", "methods": {"SGD": {}, "Lion": {"optimizer": "own:Lion"}}, "replicates": 2,
        "search": {"trials": 2, "sampler": "qmc", "rho": {"low": 0.1, "high": 0.5}}, "problems": [{"task": "digits"}],
    }  # fmt: skip
    *path, last = key.split(".")
    place: Any = content
    for part in path:
        place = place[part][0] if part == "problems" else place[part]
    place[last] = given == "true"
    with pytest.raises(ValidationError, match="a number or a text is wanted, neither true nor false"):
        StudySpec.model_validate(content)


def test_switches_are_switches() -> None:
    content = {
        "name": "s", "question": "?", "methods": ["SGD", "SWA"], "replicates": 2, "probes": True, "features": False,
        "search": {"trials": 2, "sampler": "qmc", "rho": {"low": 0.1, "high": 0.5, "log": True}},
        "problems": [{"task": "own:build", "factors": {"train_size": 200, "wide": [True, False]}}],
    }  # fmt: skip
    assert StudySpec.model_validate(content).probes is True

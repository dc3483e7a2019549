"""One definition of every verdict: whoever quotes it quotes `study.stats.effects.RULES`."""

from pathlib import Path

import pytest
from synthetic import synthetic_study

from study.findings import find
from study.specs.spec import builtin_specs
from study.stats import RULES

README = Path(__file__).parents[2] / "study" / "README.md"


def test_the_readme_quotes_every_rule() -> None:
    text = README.read_text(encoding="utf-8")
    table = text.partition("<!-- verdict-rules -->")[2].partition("<!-- /verdict-rules -->")[0]
    assert table.strip().splitlines()[2:] == [f"| {name} | {rule} |" for name, rule in RULES.items()]


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_a_spec_that_says_what_helps_means_quotes_the_rule(name: str) -> None:
    comments = (line[2:] for line in builtin_specs()[name].splitlines() if line.startswith("# "))
    assert f'"helps" at budget G: {RULES["helps"]}.' in " ".join(comments)


def test_the_findings_hold_the_rules() -> None:
    spec, records = synthetic_study(tasks=("digits",), factors={}, trials=2, replicates=2)
    assert find(spec, records).verdict_rules == dict(RULES)

"""The page that says what is supported names tests that exist, and quotes sentences that are said."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORE = HERE.parent.parent / "wasam_core"
PAGE = (CORE / "SUPPORT.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" |")] for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [row for row in ROWS if row[0] != "situation"]
NAMED = re.compile(r"`(test_\w+)::(test_\w+)`")
TOPICS = (
    "autocast", "float16", "bfloat16", "disabled", "GradScaler", "deepcopy", "pickle", "memory", "file",
    "distributed.checkpoint", "strict", "assign", "hooks", "add_param_group", "replaced", "meta device",
    "parametrizations", "inference mode", "maximize", "foreach", "fused", "capturable", "differentiable", "compile",
    "DistributedDataParallel", "join()", "uneven", "FSDP2", "accumulation", "automatic optimization",
    "manual optimization", "BatchNorm", "SyncBatchNorm", "InstanceNorm", "GroupNorm", "lazy",
)  # fmt: skip


@cache
def sentences() -> str:
    """Return all texts of the core; what an f-string puts in is left out."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(CORE.rglob("*.py"))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((HERE / f"{file}.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_is_shown_by_tests_that_exist(row: list[str]) -> None:
    situation, today, how, shown = row
    assert situation
    assert today in ("supported", "refused", "not ours")
    assert how
    named = NAMED.findall(shown)
    assert named or today == "not ours"
    assert NAMED.sub("", shown).strip(", ") == ""
    for file, test in named:
        assert test in functions_of(file), f"{file}.py has no {test}"


@pytest.mark.parametrize("row", [row for row in ROWS if row[1] == "refused"], ids=lambda row: row[0])
def test_a_refusal_is_quoted_as_it_is_said(row: list[str]) -> None:
    quoted = re.findall(r'"([^"]+)"', row[2])
    assert quoted
    said = sentences()
    assert all(quote in said for quote in quoted)


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_has_a_row(topic: str) -> None:
    assert any(topic.lower() in " ".join(row[:3]).lower() for row in ROWS)


def test_no_situation_stands_twice() -> None:
    assert len({row[0] for row in ROWS}) == len(ROWS)

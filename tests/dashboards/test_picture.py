"""The verdicts as one picture: well-formed, small, a gain and a verdict for every comparison, no markup of a user's."""

from pathlib import Path
from xml.etree import ElementTree

from dashboards import theme
from dashboards.picture import picture_of
from dashboards.score import shown

SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_holds_every_comparison_under_the_primary_budget(study, make) -> None:
    for material in (study, make(hostile=True, tasks=("digits",), factors={}, trials=2, replicates=2)):
        findings = material.findings
        effects = [effect for effect in findings.effects if effect.budget == findings.primary_budget]
        with shown(findings):
            root = ElementTree.fromstring(picture_of(findings, material.cells))
            told = sorted((theme.gain(effect.mean), effect.verdict) for effect in effects)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            "svg", "title", "style", "rect", "path", "text"
        }  # fmt: skip
        texts = [str(element.text) for element in root.iter(f"{SVG}text")]
        verdicts = [at for at, text in enumerate(texts) if text in findings.verdict_rules]
        assert sorted((texts[at - 1], texts[at]) for at in verdicts) == told
        labels = " ".join(texts)
        assert all(word in labels for cell in material.cells.values() for word in cell.label.split())
        for element in root.iter(f"{SVG}rect"):
            assert 0 <= float(element.get("x", "0").rstrip("%")) <= 100


def test_the_picture_of_the_front_page_is_small() -> None:
    path = Path(__file__).parents[2] / "dashboards" / "verdicts.svg"
    assert path.stat().st_size < 100_000
    assert ElementTree.parse(path).getroot().tag == f"{SVG}svg"

"""What the literature predicted, and what a study says that named no claims of its own.

The published claims are those of the built-in suite, evaluated by the same rules on whatever the study holds. Nothing
was predicted for this study before its first run, so that agreement is a description and no test.
"""

import functools
from collections.abc import Iterable
from dataclasses import replace

from study.findings.content import HypothesisResult
from study.findings.evidence import Evidence
from study.findings.hypotheses import evaluate
from study.records import LineRecord
from study.specs.spec import SUITE, Hypothesis, StudySpec, builtin_specs, parse_spec
from study.stats import Effect


@functools.cache
def published() -> tuple[Hypothesis, ...]:
    """Return the claims of the built-in suite, in its order."""
    texts = {name: text for name, text in builtin_specs().items() if name.startswith(f"{SUITE}/")}
    return tuple(claim for name, text in texts.items() for claim in parse_spec(text, name).hypotheses)


def literature_of(
    evidence: Evidence, effects: tuple[Effect, ...], averaging: tuple[Effect, ...], lines: tuple[LineRecord, ...]
) -> tuple[HypothesisResult, ...]:
    """Return the published claims that a finished study can speak of; none where it named claims itself.

    Args:
        evidence: Of all its runs.
        effects, averaging, lines: As for `evaluate`.
    """
    spec = evidence.spec
    if spec.hypotheses:
        return ()
    varied = {name for effect in effects for name, _ in effect.factors}
    concerned = tuple(claim for claim in published() if _concerns(claim, spec, varied))
    asked = replace(evidence, spec=spec.model_copy(update={"hypotheses": concerned}))
    found: Iterable[HypothesisResult] = evaluate(asked, effects, averaging, lines)
    return tuple(result for result in found if result.estimate == result.estimate)


def _concerns(claim: Hypothesis, spec: StudySpec, varied: set[str]) -> bool:
    budgets = {"E", "G"} if claim.kind == "budget" else {claim.budget}
    methods = {claim.method, claim.other} - {"", "baseline"}
    methods |= {"SWA", "SAM"} if claim.kind in ("worse", "better") else set()
    return (
        methods <= {*spec.methods}
        and budgets <= {*spec.budgets}
        and (not claim.factor or claim.factor in varied)
        and (claim.kind not in ("sharpness", "barrier", "minimizers") or spec.probes)
    )

"""Findings: what the measurements mean, as plain dataclasses and as ``findings.json``.

`evidence` picks out of the records what each tuned method measured, `conclusions` compares it and judges,
`outcomes` decides the claims of the spec (`quantities` gives numbers by seed, `combinations` puts cells together)
and, for a study without any, the published ones; `across` looks across cells, `tuning` looks at the search, `caveats`
names what could change the answer, `content` holds the result and its file, `schema` describes that file.
"""

from study.findings.conclusions import find
from study.findings.content import (
    FINDINGS_VERSION,
    Caveat,
    DeltaStrip,
    Findings,
    FindingsError,
    HypothesisResult,
    MethodSummary,
    RunCounts,
    read_findings,
    write_findings,
)

__all__ = [
    "FINDINGS_VERSION",
    "Caveat",
    "DeltaStrip",
    "Findings",
    "FindingsError",
    "HypothesisResult",
    "MethodSummary",
    "RunCounts",
    "find",
    "read_findings",
    "write_findings",
]

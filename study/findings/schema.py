"""The JSON schema of ``findings.json``, so that other programs can rely on it: ``python -m study.findings.schema``.

It stands in the package as ``schema.json`` and is derived from the dataclasses; a test keeps the two equal. Its
version is that of the findings: fields may be added under one version, a field that goes or changes needs a new one.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from study.files import write_atomically
from study.findings.content import FINDINGS_VERSION, Findings


def findings_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of ``findings.json``."""
    schema = TypeAdapter(Findings).json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"findings.json, version {FINDINGS_VERSION}",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def schema_text() -> str:
    """Return the schema as it stands in its file."""
    return json.dumps(findings_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_atomically(Path(str(resources.files("study.findings") / "schema.json")), schema_text())

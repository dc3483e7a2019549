"""What the report and the index share: templates, one inline script named by its hash, and the style sheet."""

import functools
from collections.abc import Sequence

import jinja2
from markupsafe import Markup

from dashboards import payload, theme

_TO_THE_RIGHT = f"{', '.join(f'.r{i} tr > :nth-child({i})' for i in range(1, 41))} {{ text-align: right; }}"


def render(template: str, scripts: Sequence[str], styles: Sequence[str], **values: object) -> str:
    """Fill in a page's template.

    Args:
        template: Name of the template's file.
        scripts: Names of the script files, joined in this order into the one that the page's policy allows.
        styles: Names of the style sheets, joined likewise.
        **values: What the template asks for beside ``csp``, ``script`` and ``css``.
    """
    script = "\n".join(payload.part(name) for name in scripts)
    return (
        _templates()
        .get_template(template)
        .render(
            csp=payload.policy(script),
            script=Markup(script),  # our own files
            css=Markup("\n".join([*map(payload.part, styles), _TO_THE_RIGHT])),  # our own files
            **values,
        )
        .lstrip()
    )


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(payload.part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"style_of": theme.style_of, "dark": theme.DARK, "icons": theme.VERDICT_ICONS}
    environment.filters["csv"] = csv_value
    return environment


def csv_value(value: object) -> str:
    """Write a table entry's value for sorting and the CSV: numbers at ten significant digits."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)

"""Renders C files from templates that look like the C they produce."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import jinja2

from dhn_kit import expressions, resources


def render(template: str, **values: Any) -> str:
    """The text of templates/`template`; the filter ``c`` writes an expression of kernels.toml as C."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.path("templates")),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    env.filters["c"] = expressions.to_c
    return env.get_template(template).render(**values)

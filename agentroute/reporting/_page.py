"""A page that needs nothing outside its file: its frame, its policy, and what is put into it made safe."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from agentroute.errors import MissingExtraError
from agentroute.reporting._charts import Spec, libraries
from agentroute.reporting._theme import DARK, LIGHT
from agentroute.reporting.words import END, ISOLATE, typeset

__all__ = ["rendered"]

_BREAKS = re.compile(r"(?<=[/_:@])")
"""Where a name may be broken over two lines."""


def rendered(template: str, *, charts: Mapping[str, Spec], points: Any = None, **words: Any) -> str:
    """The page of a template of this package.

    Args:
        template: Its file; the frame's macros are at hand in it.
        charts: What is drawn, by id.
        points: What the page's slider shows, if it has one.
        **words: All that the template needs. It is escaped; names are isolated as `words.isolated` has marked them.

    Raises:
        MissingExtraError: The extra `report` is not installed.
    """
    _, vl_convert = libraries()
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup, escape
    except ImportError as error:
        raise MissingExtraError("a report", "report") from error
    from agentroute import __version__

    bundle = vl_convert.javascript_bundle()
    script, css = _file("report.js"), _file("report.css")
    # Everything that is put into the page is escaped, but for these, which are ours or made safe here.
    trusted = {
        "policy": _policy(bundle, script),
        "bundle": bundle,
        "script": script,
        "css": css,
        "variables": _variables(),
        "charts": _json(charts),
        **({} if points is None else {"points_json": _json(points)}),
    }

    def enclosed(value: Any) -> Any:
        if not isinstance(value, str) or ISOLATE not in value:
            return value
        return Markup(escape(value).replace(ISOLATE, Markup("<bdi>")).replace(END, Markup("</bdi>")))  # noqa: S704 - escaped

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=enclosed)
    environment.filters["typeset"] = typeset
    environment.filters["soft"] = lambda text: Markup("<wbr>").join(escape(part) for part in _BREAKS.split(text))
    return environment.from_string(_file("frame.html.j2") + _file(template)).render(
        **{name: Markup(text) for name, text in trusted.items()},  # noqa: S704 - see above
        **words,
        points=points,
        version=__version__,
    )


def _file(name: str) -> str:
    return (resources.files("agentroute.reporting") / "page" / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that may stand inside a `script` element, whatever names it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _policy(*scripts: str) -> str:
    """A content security policy: these scripts by their hashes, styles, pictures inside the file, and nothing else."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _variables() -> str:
    light, dark = ("".join(f"--{name}:{value};" for name, value in colours.items()) for colours in (LIGHT, DARK))
    return (
        f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f"@media screen{{:root[data-theme=dark]{{{dark}}}}}"
    )

"""Shows the examples of docstrings as code: Markdown would take a line of `>>>` for a quotation.

A griffe extension, named in `zensical.toml`. The docstrings stay as readers of the source and the doctests have them.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Doctests(Extension):
    """Fences each run of doctest lines, with its output, up to the next blank line."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called by griffe for each documented object."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)

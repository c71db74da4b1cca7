"""Tools and schemas, kept as they were given and bound by the candidate that is chosen.

Each provider writes tools and schemas in its own way, so that nothing can be bound before the model is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentroute.errors import ConfigError
from langchain_agentroute._candidates import Target, flatten

__all__ = ["BINDING", "Binding", "SchemaBinding", "ToolBinding"]

BINDING = "agentroute_binding"
"""The call argument that carries a binding. Not `tools`: others read that one and expect a provider's format there."""


class Binding:
    """What to bind. Bound once per candidate, then kept: converting tools is dearer than routing."""

    needs: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._bound: dict[str, tuple[Target, Target]] = {}

    def on(self, target: Target) -> Target:
        """The candidate with this bound to it, in its provider's own way."""
        known = self._bound.get(target.name)
        if known is not None and known[0] is target:
            return known[1]
        made = self._bind(target)
        self._bound[target.name] = (target, made)
        return made

    def _bind(self, target: Target) -> Target:
        raise NotImplementedError


class ToolBinding(Binding):
    """`bind_tools(tools, tool_choice=..., **kwargs)`, to be replayed."""

    def __init__(self, tools: Sequence[Any], tool_choice: Any, kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.tools = tools
        self.tool_choice = tool_choice
        self.kwargs = kwargs
        self.needs = frozenset(
            need for need, wanted in (("tools", tools), ("structured_output", kwargs.get("response_format"))) if wanted
        )

    def __repr__(self) -> str:
        """Without the tools, whose own representation may be long."""
        return f"ToolBinding({len(self.tools)} tools)"

    def _bind(self, target: Target) -> Target:
        choice = {} if self.tool_choice is None else {"tool_choice": self.tool_choice}
        runnable, kwargs, config = flatten(target.chat.bind_tools(self.tools, **choice, **self.kwargs))
        # flatten() has merged nothing of the target's own binding, which bind_tools of the chat model cannot know.
        return Target(
            name=target.name,
            chat=target.chat,
            runnable=runnable,
            kwargs={**target.kwargs, **kwargs},
            config=config or target.config,
        )


class SchemaBinding(Binding):
    """`with_structured_output(schema, include_raw=..., **kwargs)`, to be replayed."""

    needs = frozenset({"structured_output"})

    def __init__(self, schema: Any, kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.schema = schema
        self.kwargs = kwargs
        # The same with the message kept beside the object: a cascade has to see why there is none.
        self.raw: SchemaBinding = self if kwargs.get("include_raw") else SchemaBinding(schema, {**kwargs, "include_raw": True})

    def __repr__(self) -> str:
        """The schema's name, where it has one."""
        return f"SchemaBinding({getattr(self.schema, '__name__', 'schema')})"

    @staticmethod
    def check(target: Target) -> None:
        """Refuses a candidate with bound arguments.

        Raises:
            ConfigError: It has some.
        """
        if target.kwargs:
            # LangChain's structured runnables pass call arguments on in some shapes and drop them in others.
            raise ConfigError(
                f"candidate {target.name!r} carries bound arguments ({', '.join(target.kwargs)}), which structured output "
                "would lose: set them on the chat model itself"
            )

    def _bind(self, target: Target) -> Target:
        self.check(target)
        runnable = target.chat.with_structured_output(self.schema, **self.kwargs)
        return Target(name=target.name, chat=target.chat, runnable=runnable, config=target.config)

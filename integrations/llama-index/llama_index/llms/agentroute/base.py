"""`RoutedLLM`: a LlamaIndex LLM that picks a model for each call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms import LLM
from pydantic import SkipValidation

from agentroute.pool import ModelPool
from agentroute.serving import Decider, Rule, SupportsRoute, known_model
from llama_index.llms.agentroute._candidates import Target, named, pool_of
from llama_index.llms.agentroute._choosing import ChoosingLLM, Serving

__all__ = ["RoutedLLM"]


class RoutedLLM(ChoosingLLM):
    """An LLM that picks one of several LLMs for each call.

    It goes wherever a LlamaIndex LLM goes: `Settings.llm`, query and chat engines, extractors, agents and workflows. Every door
    of the chosen candidate is used as it is (chat, complete, tools, structured prediction, streams), so that what its provider
    does well stays. One call is one call in traces and token counts, under the candidate's own name. What was decided, and why,
    stands in the response's `additional_kwargs["agentroute"]`, and in a `ModelRoutedEvent`.

    ```python
    llm = RoutedLLM(llms={"small": small, "large": large}, router=Router.load("router/"))
    response = llm.chat([ChatMessage("What is the capital of France?")])
    response.additional_kwargs["agentroute"]["answered_by"]
    ```

    A call names its model with `agentroute_model="small"`; then neither the router nor failover has a say. `llm.llms["small"]` is
    the candidate itself.

    Arguments can be assigned later, checked as at first: after a `fit`, `llm.router = router` swaps the new router in. Calls
    under way end as they began. A pickled copy leaves its candidates, router and log behind: they hold keys and files.

    Args:
        llms: The candidates, by name, or a sequence of LLMs that know their own names.
        router: Who chooses: an `agentroute.router.Router`, anything with `route(query)`, or a function from a query to a
            model's name or a whole decision. `None` = always the default.
        default: Who answers when the router does not know or fails; `None` = the router's default, else the first LLM.
        outcome_log: Where the outcome of every call goes, without delaying it. It is wrapped in a queue, which then
            stands here: `llm.outcome_log.flush(1.0)` waits for the queue.
        failover: After a failure that another model may help with (no connection, rate limit, server error; an overflow, if
            a larger window is known), and before the first token: `True` = go on to the router's next candidates, a sequence
            of names = to these, `False` = do not.
        sticky: Where a conversation keeps its model: in a `"tool_loop"`, for the whole `"conversation"`, or nowhere
            (`"none"`).
        prepare_messages: Called with the messages and the candidate; returns the messages that this candidate shall see, whatever
            the door: a prompt's once it is filled, a completion's as one of the user's. What the candidate adds by itself, such
            as its own system prompt or the words of an output parser, comes later.
        role: The agent role of every query, a routing feature; see `for_role` and `use_allocation`.
        task: The kind of task of every query, a routing feature.
        cards: What is known of the models beyond their LlamaIndex metadata and the router's own cards, such as prices.
        context_window: The window that this LLM tells of, by which LlamaIndex packs prompts and cuts memories: `"min"`, the
            smallest of its candidates', which never overflows one but splits what the others could take at once; `"max"`, the
            largest, and then long prompts go to the candidates that they fit; or so many tokens.

    Raises:
        ConfigError: A candidate is no LLM, or an argument is wrong; the message says what to do.
        UnknownModelError: A name is known to one side only.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = (*ChoosingLLM.SETTINGS, "router", "default", "failover")

    router: SkipValidation[SupportsRoute | Rule | None] = Field(default=None, exclude=True, repr=False)
    default: str | None = None
    failover: bool | Sequence[str] = True

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for the class."""
        return "agentroute_routed_llm"

    @classmethod
    def from_router(
        cls, folder: str | Path, *, llms: Mapping[str, LLM] | Sequence[LLM], embedder: Any = None, **kwargs: Any
    ) -> Self:
        """A routed LLM with the router that `Router.save` (or `agentroute fit`) left in a folder.

        Args:
            folder: The folder.
            llms: The candidates: exactly the models of the router's pool.
            embedder: The embedder that the router was fitted with; `None` = the one that it names.
            **kwargs: As for the class.

        Raises:
            ArtefactError: The folder is damaged or foreign.
            EmbedderMismatchError: The embedder is another one.
            UnknownModelError: A candidate is not in the router's pool.
            ConfigError: A model of the router's pool is no candidate.
        """
        from agentroute.router import Router

        return cls(llms=named(llms), router=Router.load(Path(folder), embedder=embedder), **kwargs)

    def _serving_for(self, targets: Mapping[str, Target]) -> Serving:
        learned = getattr(self.router, "pool", None)
        pool = pool_of(targets, self.cards, learned if isinstance(learned, ModelPool) else None)
        if not isinstance(self.failover, bool):
            for name in self.failover:
                known_model(name, targets)
        decider = Decider(
            pool,
            router=self.router,
            default=self.default,
            sticky=self.sticky,
            role=self.role,
            task=self.task,
            logged=self.outcome_log is not None,
        )
        return Serving(
            targets=targets,
            pool=pool,
            decider=decider,
            log=self.outcome_log,
            failover=self.failover,
            memory=self._memory,
            authors=self._authors,
            prepare=self.prepare_messages,
            alike=len({type(target.llm) for target in targets.values()}) == 1,
        )

"""`CascadeLLM`: a LlamaIndex LLM that looks at each answer, and asks the next model when it is not good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.bridge.pydantic import Field, model_validator
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from pydantic import SkipValidation

from agentroute.cascades import Limits
from agentroute.errors import ConfigError
from agentroute.pool import ModelPool
from agentroute.scorers import Scorer, ScorerLike, as_scorer
from agentroute.serving import CascadeDecider, Decided, JudgesVoice, SupportsPlan, check_cascade
from llama_index.llms.agentroute._calls import record_on, stamped
from llama_index.llms.agentroute._candidates import Target, named, pool_of
from llama_index.llms.agentroute._choosing import ChoosingLLM, Serving
from llama_index.llms.agentroute._climbing import ClimbingCall
from llama_index.llms.agentroute._delegating import door
from llama_index.llms.agentroute._requests import Request
from llama_index.llms.agentroute.askers import LLMAsker

__all__ = ["CascadeLLM"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CascadeServing(Serving):
    """What every call of a cascade needs and no call changes: also who judges, and what a query may take."""

    judge: Scorer | None
    limits: Limits
    voice: JudgesVoice

    def call(self, decided: Decided, request: Request) -> ClimbingCall:
        """The calls that a decision leads to."""
        return ClimbingCall(
            decided=decided,
            pool=self.pool,
            log=self.log,
            failover=self.failover,
            request=request,
            serving=self,
            scope=self.scope(),
            judge=self.judge,
            limits=self.limits,
            voice=self.voice,
        )


class CascadeLLM(ChoosingLLM):
    """An LLM that looks at each answer, and asks the next LLM when it is not good enough.

    It goes wherever a LlamaIndex LLM goes, as `RoutedLLM` does, and the answers that it does not take never reach the user's
    stream. The last LLM, whose answer is taken as it is, streams truly; an answer that was accepted after a check comes as
    one chunk. An answer at which a learned `router` does not want to look streams truly, too, and what was shown of it is the
    answer; with tools it is waited for, so that a broken call is never shown. Tool calls are judged before any tool is called.
    What was tried, what was thought of it, and what all of it cost stands in the response's `additional_kwargs["agentroute"]`.

    ```python
    llm = CascadeLLM(llms={"small": small, "large": large}, judge=lambda query, reply: len(reply.text) > 20)
    response = llm.chat([ChatMessage("What is the capital of France?")])
    response.additional_kwargs["agentroute"]["attempts"]
    ```

    Three ways to climb: with a `judge`, one LLM after the other until an answer scores `threshold`; with a `router`, by a
    learned plan that may skip LLMs and stop early; with neither, one after the other until an answer can be used.
    Whatever the way, an answer that cannot be used is not taken while there is another LLM to ask: an empty one, a tool call
    with broken arguments, text of which no object of the schema can be made; unless it has been shown. An LLM that fails is
    passed over, for the same errors with which `RoutedLLM` fails over. When no answer is good enough, the best scored one is
    given.

    A call names its model with `agentroute_model="small"`; then nobody judges. Arguments can be assigned later, as those of a
    `RoutedLLM`.

    Args:
        llms: The candidates, cheapest first: by name, or a sequence of LLMs that know their own names.
        judge: How good an answer is: an `agentroute.scorers` scorer, or a function of `(query, reply)` or of `(reply)` that
            gives a bool, a number in [0, 1] or a `Score`.
        threshold: The least score that is good enough; a number, or one for each model by name. A `router` has its own.
        check_last: Whether the last LLM's answer is judged too. Then nothing streams truly, and the best scored of all answers
            is given when none is good enough; otherwise the last LLM's answer is taken as it comes. A `router` has its own.
        router: Plans whom to call: a `CascadeRouter`, or anything with `plan(query)`.
        max_models: Most LLMs to call for one query; a `router` plans with it.
        max_cost: Most USD for one query, checks included. An LLM is called only if the most that it can cost still fits; for
            this its card needs a price, and its answer a limit: `max_tokens`, or the card's `max_output_tokens`.
        deadline: Seconds for one query, from its first call on. What is late is left behind, and the best answer there is by
            then is given. It ends with the first token of a stream.
        timeout: Seconds for each call, and for each check.
        outcome_log: Where the outcome of every call goes, rejected ones too, with score and signals in `metadata`. No
            score is logged as the quality: a judge's opinion is not the truth.
        sticky: Where a conversation does not fall below the model that answered last: in a `"tool_loop"`, for the whole
            `"conversation"`, or nowhere (`"none"`).
        prepare_messages: Called with the messages and the candidate; returns the messages that this candidate shall see, whatever
            the door: a prompt's once it is filled, a completion's as one of the user's. What the candidate adds by itself, such
            as its own system prompt or the words of an output parser, comes later.
        role: The agent role of every query, a feature for the router. Under `use_allocation` the cascade begins with the
            role's model.
        task: The kind of task of every query, a feature for the router.
        cards: What is known of the models beyond their LlamaIndex metadata and the router's own cards, such as prices.
        context_window: As for `RoutedLLM`.

    Raises:
        ConfigError: A candidate is no LLM, or an argument is wrong; the message says what to do.
        UnknownModelError: A name is known to one side only.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = (
        *ChoosingLLM.SETTINGS, "judge", "threshold", "check_last", "router", "max_models", "max_cost", "deadline", "timeout",
    )  # fmt: skip

    MEANT: ClassVar[Mapping[str, str]] = {
        **ChoosingLLM.MEANT,
        "plan": "router",
        "planner": "router",
        "scorer": "judge",
        "verifier": "judge",
    }

    judge: SkipValidation[ScorerLike | None] = Field(default=None, exclude=True, repr=False)
    threshold: float | Mapping[str, float] = 0.5
    check_last: bool = False
    router: SkipValidation[SupportsPlan | None] = Field(default=None, exclude=True, repr=False)
    max_models: int | None = None
    max_cost: float | None = None
    deadline: float | None = None
    timeout: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_no_default(cls, values: Any) -> Any:
        if isinstance(values, dict) and "default" in values:
            raise ConfigError(
                "a cascade has no default=: it begins with the first of llms=, and gives the best answer when none will do"
            )
        return values

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for the class."""
        return "agentroute_cascade_llm"

    @classmethod
    def from_router(
        cls, folder: str | Path, *, llms: Mapping[str, LLM] | Sequence[LLM], judge: ScorerLike | None = None, **kwargs: Any
    ) -> Self:
        """A cascade with the router that `CascadeRouter.save` (or `agentroute fit --cascade`) left in a folder.

        Args:
            folder: The folder.
            llms: The candidates, cheapest first: exactly the models of the router's pool.
            judge: What measures the signals with which the router was fitted.
            **kwargs: As for the class, and `embedder`, with which the router was fitted; by default the one that it names.

        Raises:
            ArtefactError: The folder is damaged or foreign.
            EmbedderMismatchError: The embedder is another one.
            UnknownModelError: A candidate is not in the router's pool.
            ConfigError: A model of the router's pool is no candidate, or the router needs a judge.
        """
        from agentroute.cascades import CascadeRouter

        router = CascadeRouter.load(Path(folder), embedder=kwargs.pop("embedder", None))
        return cls(llms=named(llms), router=router, judge=judge, **kwargs)

    def _serving_for(self, targets: Mapping[str, Target]) -> CascadeServing:
        learned = getattr(self.router, "pool", None)
        pool = pool_of(targets, self.cards, learned if isinstance(learned, ModelPool) else None)
        if isinstance(self.judge, (LLMAsker, LLM)):
            raise ConfigError(f"judge= is a {type(self.judge).__name__}, which gives no score: pass LLMJudge(asker(llm))")
        judge = None if self.judge is None else as_scorer(self.judge)
        limits = Limits(max_models=self.max_models, max_cost=self.max_cost, deadline=self.deadline, timeout=self.timeout)
        default = type(self).model_fields["threshold"].default
        check_cascade(judge=judge, router=self.router, threshold=self.threshold, default=default, limits=limits)
        decider = CascadeDecider(
            pool,
            planner=self.router,
            judge=judge,
            threshold=self.threshold,
            check_last=self.check_last,
            sticky=self.sticky,
            role=self.role,
            task=self.task,
            logged=self.outcome_log is not None,
            max_models=self.max_models,
        )
        return CascadeServing(
            targets=targets,
            pool=pool,
            decider=decider,
            log=self.outcome_log,
            failover=True,
            memory=self._memory,
            authors=self._authors,
            prepare=self.prepare_messages,
            alike=len({type(target.llm) for target in targets.values()}) == 1,
            judge=judge,
            limits=limits,
            voice=JudgesVoice(judge, self.router),
        )

    # Judged as a call with tools, before any of them is called: what a tool has done, no better answer undoes.

    @door
    def predict_and_call(  # type: ignore[override]  # as in DelegatingLLM
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """Calls the tools that the accepted answer asks for."""
        self._check_calls_tools()
        recorded = _Recorded(self)
        return recorded.on(FunctionCallingLLM.predict_and_call(cast("Any", recorded), tools, user_msg, chat_history, **kwargs))

    @door
    async def apredict_and_call(  # type: ignore[override]  # as above
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> AgentChatResponse:
        """As `predict_and_call`."""
        self._check_calls_tools()
        recorded = _Recorded(self)
        asked = FunctionCallingLLM.apredict_and_call(cast("Any", recorded), tools, user_msg, chat_history, **kwargs)
        return recorded.on(await asked)

    def _check_calls_tools(self) -> None:
        if not self.metadata.is_function_calling_model:
            raise ConfigError(f"none of {', '.join(map(repr, self.llms))} calls tools: add an LLM that does to llms=")


class _Recorded:
    """A cascade as LlamaIndex's `predict_and_call` asks it: keeps the record of the answer, which that leaves behind."""

    def __init__(self, llm: CascadeLLM) -> None:
        self.metadata = llm.metadata
        self.get_tool_calls_from_response = llm.get_tool_calls_from_response
        self._llm = llm
        self._record: Any = None

    def chat_with_tools(self, *args: Any, **kwargs: Any) -> ChatResponse:
        return self._kept(self._llm.chat_with_tools(*args, **kwargs))

    async def achat_with_tools(self, *args: Any, **kwargs: Any) -> ChatResponse:
        return self._kept(await self._llm.achat_with_tools(*args, **kwargs))

    def _kept(self, response: ChatResponse) -> ChatResponse:
        self._record = record_on(response)
        return response

    def on(self, answer: AgentChatResponse) -> AgentChatResponse:
        """The answer with the record."""
        return cast("AgentChatResponse", stamped(answer, self._record))

"""`CascadeChatModel`: a LangChain chat model that asks a cheap model first, and a dearer one when that will not do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from pydantic import Field, SkipValidation, model_validator

from agentroute.cascades import Call, Limits
from agentroute.errors import ConfigError
from agentroute.scorers import ScorerLike, as_scorer
from agentroute.serving import CascadeDecider, JudgesVoice, SupportsPlan, check_cascade
from langchain_agentroute._calls import Ready, RoutedCall
from langchain_agentroute._candidates import Target, pool_of
from langchain_agentroute._cascading import CascadeRouting, quieted
from langchain_agentroute._choosing import ChoosingChatModel
from langchain_agentroute._climbing import CascadeCall
from langchain_agentroute._runs import Run
from langchain_agentroute.askers import ChatAsker

__all__ = ["CascadeChatModel"]


class CascadeChatModel(ChoosingChatModel):
    """A chat model that looks at each answer, and asks the next model when it is not good enough.

    It goes wherever a LangChain chat model goes, as `RoutedChatModel` does, and the answers that it does not take never reach the
    user's stream: neither tokens nor events. The last model, whose answer is taken as it is, streams truly; an answer that was
    accepted after a check comes as one piece. An answer at which a learned `router` does not want to look streams truly, too,
    and what was shown of it is the answer; with tools or a schema it is waited for, so that a broken one is never shown.

    What was tried, what was thought of it, and what all of it cost stands on the answer: see `routing_decision`. The message's
    own usage is that of the accepted answer alone.

    ```python
    model = CascadeChatModel(models={"small": small, "large": large}, judge=lambda query, reply: len(reply.text) > 20)
    answer = model.invoke("What is the capital of France?")
    routing_decision(answer)["attempts"]
    ```

    Three ways to climb: with a `judge`, one model after the other until an answer scores `threshold`; with a `router`, by a
    learned plan that may skip models and stop early; with neither, one after the other until an answer can be used.
    Whatever the way, an answer that cannot be used is not taken while there is another model to ask: an empty one, a tool call
    with broken arguments, an object that does not fit the schema; unless it has been shown. A model that fails is passed over,
    for the same errors with which `RoutedChatModel` fails over. When no answer is good enough, the best scored one is given.

    A call names its model with `model="small"` or `config={"configurable": {"agentroute_model": "small"}}`; then nobody judges.

    Arguments can be assigned later, as those of a `RoutedChatModel`. A wrapper of somebody else that calls the private
    `_generate` or `_stream` gets the answer of the last model: nobody can judge there.

    Args:
        models: The candidates, cheapest first: by name, or a sequence of chat models that know their own names.
        judge: How good an answer is: an `agentroute.scorers` scorer, or a function of `(query, reply)` or of `(reply)` that
            gives a bool, a number in [0, 1] or a `Score`.
        threshold: The least score that is good enough; a number, or one for each model by name. A `router` has its own.
        check_last: Whether the last model's answer is judged too. Then nothing streams truly, and the best scored of all answers
            is given when none is good enough; otherwise the last model's answer is taken as it comes. A `router` has its own.
        router: Plans whom to call: a `CascadeRouter`, or anything with `plan(query)`.
        max_models: Most models to call for one query; a `router` plans with it.
        max_cost: Most USD for one query, checks included. A model is called only if the most that it can cost still fits; for
            this its card needs a price, and its answer a limit: `max_tokens`, or the card's `max_output_tokens`.
        deadline: Seconds for one query, from its first call on. What is late is left behind, and the best answer there is by
            then is given. It ends with the first token of a stream.
        timeout: Seconds for each call, and for each check.
        outcome_log: Where the outcome of every call goes, rejected ones too, with score and signals in `metadata`. No
            score is logged as the quality: a judge's opinion is not the truth.
        sticky: Where a conversation does not fall below the model that answered last: in a `"tool_loop"`, for the whole
            `"conversation"`, or nowhere (`"none"`).
        prepare_messages: Called with the messages and the candidate; returns the messages that this candidate shall see.
        role: The agent role of every query, a feature for the router.
        task: The kind of task of every query, a feature for the router.
        cards: What is known of the models beyond their LangChain profiles and the router's own cards, such as prices.

    Raises:
        ConfigError: A candidate is no chat model, or an argument is wrong; the message says what to do.
        UnknownModelError: A name is known to one side only.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = (
        *ChoosingChatModel.SETTINGS,
        "judge",
        "threshold",
        "check_last",
        "router",
        "max_models",
        "max_cost",
        "deadline",
        "timeout",
    )

    MEANT: ClassVar[Mapping[str, str]] = {"plan": "router", "planner": "router", "scorer": "judge", "verifier": "judge"}

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
                "a cascade has no default=: it begins with the first of models=, and gives the best answer when none will do"
            )
        return values

    def _remade(self, settings: dict[str, Any]) -> CascadeChatModel:
        return CascadeChatModel(**settings)

    @classmethod
    def from_router(
        cls, folder: str | Path, *, models: Mapping[str, Any] | Sequence[Any], judge: ScorerLike | None = None, **kwargs: Any
    ) -> Self:
        """A cascade with the router that `CascadeRouter.save` (or `agentroute fit --cascade`) left in a folder.

        Args:
            folder: The folder.
            models: The candidates, cheapest first: exactly the models of the router's pool.
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
        return cls(models=models, router=router, judge=judge, **kwargs)

    def _routing_for(self, targets: Mapping[str, Target]) -> CascadeRouting:
        pool = pool_of(targets, self.cards, self.router)
        if isinstance(self.judge, (ChatAsker, Runnable)):
            raise ConfigError(f"judge= is a {type(self.judge).__name__}, which gives no score: pass LLMJudge(asker(model))")
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
        return CascadeRouting(
            targets=targets,
            pool=pool,
            decider=decider,
            log=self.outcome_log,
            prepare_messages=self.prepare_messages,
            failover=True,
            judge=judge,
            limits=limits,
            voice=JudgesVoice(judge, self.router),
            quiet=quieted(targets, judge),
        )

    def _privately(self, messages: list[BaseMessage], stop: Any, kwargs: dict[str, Any]) -> tuple[RoutedCall, Call, Ready]:
        request = self._request(messages, None, stop, kwargs)
        decided = request.begin().decide()
        call = request.routing.call(decided, request, Run(self, request.config, request.messages))
        assert isinstance(call, CascadeCall)  # noqa: S101  # a cascade's is
        last = call.climb.models[-1]
        step = Call(model=last)
        return call, step, call.prepared(step, call.targets[last], request.binding)

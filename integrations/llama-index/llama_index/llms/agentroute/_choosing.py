"""What the LLMs over several candidates share: their arguments, how they are assigned, and what LlamaIndex asks of an LLM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.bridge.pydantic import (
    Field,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index_instrumentation.dispatcher import active_instrument_tags
from pydantic import SkipValidation

from agentroute.errors import AgentRouteError, ConfigError
from agentroute.pool import ModelPool
from agentroute.serving import (
    Asked,
    Cards,
    Decided,
    Decider,
    Size,
    Sticky,
    StickyCache,
    check_log,
    check_names,
    known_model,
    record_feedback,
)
from llama_index.llms.agentroute._calls import LlamaCall, record_on
from llama_index.llms.agentroute._candidates import Target, metadata_of, named, targets_of
from llama_index.llms.agentroute._delegating import DelegatingLLM
from llama_index.llms.agentroute._listening import Ear, ear_of
from llama_index.llms.agentroute._messages import Authors, normalised, said, step_question
from llama_index.llms.agentroute._requests import Request, most_tokens
from llama_index.llms.agentroute._sizes import prompt_size
from llama_index.llms.agentroute._tool_calls import tool_calls
from llama_index.llms.agentroute.allocation import allocated
from llama_index.llms.agentroute.events import run_of

__all__ = ["ChoosingLLM", "Prepare", "Serving", "Window"]

Prepare: TypeAlias = Callable[[list[ChatMessage], LLM], list[ChatMessage]]
"""Rewrites a conversation for the candidate that is about to see it."""

Window: TypeAlias = Literal["min", "max"] | int
"""Which context window the routed LLM tells of: the smallest or the largest of its candidates', or so many tokens."""


# Characters: about a millisecond of counting, and a worker thread takes a tenth of one.
_LONG = 10_000

if TYPE_CHECKING:

    class LLMs:
        """Candidates as type checkers see them: taken as a mapping or a sequence, and given as a mapping."""

        def __get__(self, owner: Any, kind: Any = None) -> Mapping[str, LLM]: ...
        def __set__(self, owner: Any, llms: Mapping[str, LLM] | Sequence[LLM]) -> None: ...

else:
    LLMs = SkipValidation[Mapping[str, LLM]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Serving:
    """What every call of a routed LLM needs and no call changes.

    Attributes:
        targets: The candidates.
        pool: Their cards.
        decider: Who decides between them.
        log: Where outcomes go; `None` = nowhere.
        failover: Whether another candidate is asked when one fails, or the names of those to ask.
        memory: Who gave which answer.
        authors: Who thought which thoughts.
        prepare: Rewrites conversations.
        alike: Whether all candidates are of one class, and so read one another's messages.
        listener: Who listens to the candidates' calls, where they have no listeners of their own.
        ear: Where this is a candidate's serving: who hears what the candidate's own candidates give.
    """

    targets: Mapping[str, Target]
    pool: ModelPool
    decider: Decider
    log: Any
    failover: bool | Sequence[str]
    memory: StickyCache
    authors: Authors
    prepare: Prepare | None
    alike: bool
    listener: CallbackManager | None = None
    ear: Ear | None = None

    def asked(self, request: Request, text: str | None) -> Asked:
        """What a request asks of the decider.

        Raises:
            UnknownModelError: The caller or the run's allocation names a model that is no candidate.
        """
        decider = self.decider
        role = decider.role
        given = None if role is None else allocated(role)
        return Asked(
            turns=request.turns,
            text=request.text if text is None else text,
            needs=request.needs,
            max_output_tokens=request.max_output_tokens,
            count=request.count,
            forced=known_model(request.forced, self.targets),
            allocated=known_model(given, self.targets),
            kept=self.memory.recall(request.turns, decider.sticky, scope=self.scope()),
            size=self.size(request),
        )

    def size(self, request: Request) -> Size:
        """Model → tokens of the prompt, and the limit of its answer, by which a team's budget sets money aside."""

        @cache
        def size(model: str) -> tuple[int, int | None]:
            target = self.targets[model]
            most = most_tokens(self.pool.card(model), target.llm, request.kwargs)
            return prompt_size(request, target, self), most

        return size

    def scope(self) -> str:
        """What tells conversations of the same words apart: the role and, but for conversations that go on, the run."""
        run = None if self.decider.sticky == "conversation" else run_of(active_instrument_tags.get())
        return f"{self.decider.role or ''}\n{run or ''}"

    @property
    def prepares(self) -> bool:
        """Whether the user rewrites what a candidate sees."""
        return self.prepare is not None

    def normalised(self, messages: Sequence[ChatMessage], target: Target) -> list[ChatMessage]:
        """The conversation as a candidate can read it, always in a list of its own."""
        fit = normalised(messages, target.name, self.authors, alike=self.alike)
        return fit if self.prepare is None else self.prepare(fit, target.llm)

    def decide(self, request: Request) -> LlamaCall:
        """Decides who takes a request."""
        return self.call(self.decider.begin(self.asked(request, None)).decide(), request)

    async def adecide(self, request: Request) -> LlamaCall:
        """As `decide`, with the router on a worker thread; and in a step of a workflow by the user's own words."""
        asked = self.asked(request, await self._step_text(request))
        if self._counts_long(request):
            tokens = await asyncio.to_thread(request.count)
            asked = replace(asked, count=lambda: tokens)
        undecided = self.decider.begin(asked)
        if undecided.waits:
            return self.call(await asyncio.to_thread(undecided.decide), request)
        return self.call(undecided.decide(), request)

    def _counts_long(self, request: Request) -> bool:
        """Whether the prompt's tokens are counted, and so many that others on the event loop would wait for it."""
        long = sum(len(turn.text) for turn in request.turns) > _LONG
        return long and any(card.context_window is not None for card in self.pool)

    @staticmethod
    async def _step_text(request: Request) -> str | None:
        if request.text is not None:
            return None
        # A tool or a query engine within the step asks about other things than the user.
        return said(request.turns, await step_question())

    def call(self, decided: Decided, request: Request) -> LlamaCall:
        """The calls that a decision leads to."""
        return LlamaCall(
            decided=decided,
            pool=self.pool,
            log=self.log,
            failover=self.failover,
            request=request,
            serving=self,
            scope=self.scope(),
        )


class ChoosingLLM(DelegatingLLM):
    """An LLM over several candidates. Subclasses say how it chooses between them.

    Every routing argument is checked when it is given and when it is assigned; all that is made of them is `_serving`, which a
    call reads once.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = (
        "llms", "outcome_log", "sticky", "prepare_messages", "role", "task", "cards", "context_window",
    )  # fmt: skip
    """What routing is made of: when one of these is assigned, it is made anew."""

    MEANT: ClassVar[Mapping[str, str]] = {"models": "llms"}
    """Other names for settings, which are known to be taken for them."""

    llms: LLMs = Field(exclude=True, repr=False)
    outcome_log: SkipValidation[Any] = Field(default=None, exclude=True, repr=False)
    sticky: Sticky = "tool_loop"
    prepare_messages: SkipValidation[Prepare | None] = Field(default=None, exclude=True, repr=False)
    role: str | None = None
    task: str | None = None
    cards: SkipValidation[Cards | None] = Field(default=None, exclude=True, repr=False)
    context_window: Window = "min"

    _serving: Serving | None = PrivateAttr(default=None)
    _metadata: LLMMetadata = PrivateAttr()
    _memory: StickyCache = PrivateAttr(default_factory=StickyCache)
    _authors: Authors = PrivateAttr(default_factory=Authors)

    if not TYPE_CHECKING:
        # Type checkers make a better signature from the fields, and would let anything be assigned.
        def __init__(self, **kwargs: Any) -> None:
            kind = type(self)
            meant = {name: name for name in kind.SETTINGS} | dict(kind.MEANT)
            check_names(kwargs, kind.model_fields, meant, "a routed LLM")
            try:
                super().__init__(**kwargs)
            except ValidationError as error:
                # pydantic wraps every ValueError; ours are for the caller as they are, with what they carry.
                for detail in error.errors():
                    ours = detail.get("ctx", {}).get("error")
                    if isinstance(ours, AgentRouteError):
                        raise ours from None
                raise

        def __setattr__(self, name: str, value: Any) -> None:
            if name in type(self).SETTINGS:
                self._adopt({name: value})
            else:
                super().__setattr__(name, value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002  # LLMs are shared
        """As pydantic's, but that the routing arguments in `update` are checked and take effect. Candidates are never copied."""
        changes = dict(update or {})
        ours = {name: changes.pop(name) for name in self.SETTINGS if name in changes}
        copied = super().model_copy(update=changes)
        if ours:
            copied._adopt(ours)  # noqa: SLF001  # it is one of these
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """As `model_copy`."""
        return self.model_copy()

    def _adopt(self, changes: dict[str, Any]) -> None:
        """Takes other settings: all of them or, when one is wrong, none.

        A pickled copy keeps what it is given until it has all that it needs: its LLMs and its judge may come in any order.
        """
        revived = self._serving is None
        settings = {name: getattr(self, name) for name in self.SETTINGS} | changes
        try:
            made = type(self)(**settings)
        except AgentRouteError:
            if not revived:
                raise
            for name, value in changes.items():
                super().__setattr__(name, named(value) if name == "llms" else value)
            return
        for name in settings if revived else changes:
            super().__setattr__(name, getattr(made, name))
        serving = made._serving  # noqa: SLF001  # as above
        assert serving is not None  # noqa: S101  # it was just made
        # Every call reads this once, so that none sees half a change; what was answered so far is not forgotten.
        self._serving = self._remembering(serving)
        self._metadata = made._metadata  # noqa: SLF001

    def for_role(self, role: str) -> Self:
        """This LLM for one role of a team: the same candidates, and the role as a feature of every query.

        Under `use_allocation`, and within a team's session (`RoleAllocator.session`), each role's LLM asks the model that the
        role was given.
        """
        return self.model_copy(update={"role": role})

    @field_validator("llms", mode="before")
    @classmethod
    def _name_llms(cls, llms: Any) -> Any:
        return named(llms)

    @model_validator(mode="after")
    def _set_up(self) -> Self:
        if self.rate_limiter is not None:
            raise ConfigError("a routed LLM has no rate limiter of its own: set rate_limiter= on the candidates")
        check_log(self.outcome_log)
        targets = targets_of(self.llms)
        serving = self._serving_for(targets)
        if self.outcome_log is not None:
            from agentroute.outcomes import QueuedOutcomeLog

            if not isinstance(self.outcome_log, QueuedOutcomeLog):
                # Only now, when nothing more can go wrong: a queue has a thread. Not by assignment, which would begin anew.
                self.__dict__["outcome_log"] = QueuedOutcomeLog(self.outcome_log)
                serving = self._serving_for(targets)
        self._serving = serving
        self._metadata = metadata_of(targets, self.context_window, serving.pool)
        return self

    def _serving_for(self, targets: Mapping[str, Target]) -> Serving:
        """Checks the settings of this kind of LLM, and puts together what it decides with."""
        # Not an abstract method: LlamaIndex opens a span around every implementation of one.
        raise NotImplementedError

    def _remembering(self, serving: Serving) -> Serving:
        return replace(serving, memory=self._memory, authors=self._authors)

    def _served(self) -> Serving:
        if self._serving is None and self.llms:
            # What it was given does not go together: this says why.
            type(self)(**{name: getattr(self, name) for name in self.SETTINGS})
        if self._serving is None:
            raise ConfigError(
                f"this {type(self).__name__} was pickled, and its LLMs stayed behind with their keys: give it some, "
                f"llm.llms = {{...}}, and its router"
            )
        return replace(self._serving, listener=self.callback_manager, ear=ear_of(self))

    # --- outcomes ---

    def record_feedback(self, answer: Any, score: float, *, source: str = "user", idempotency_key: str | None = None) -> bool:
        """Tells the outcome log how good an answer was, so that the next `fit` learns from it.

        Args:
            answer: The answer (`ChatResponse`, `CompletionResponse`, `AgentChatResponse`), or the `decision_id` of its record.
            score: In [0, 1].
            source: Who says so.
            idempotency_key: Feedback with a key that was seen before changes nothing.

        Returns:
            Whether it was queued for the log, which counts a key once in any case.

        Raises:
            ConfigError: There is no outcome log, the answer carries no record, or the text is no id.
            DataError: The score is outside [0, 1].
        """
        record = answer if isinstance(answer, str) else record_on(answer)
        return record_feedback(self.outcome_log, record, score, source=source, key=idempotency_key)

    # --- what LlamaIndex asks of an LLM ---

    @property
    def metadata(self) -> LLMMetadata:
        """What all candidates together promise; the window by `context_window`."""
        return self._metadata

    @model_serializer(mode="wrap")
    def custom_model_dump(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """The settings, and the candidates by name only: by these a pipeline's cache sees that others answer now."""
        return {**super().custom_model_dump(handler, info), "llms": {n: llm.metadata.model_name for n, llm in self.llms.items()}}

    def to_payload(self) -> dict[str, Any]:
        """What events may tell of this LLM: names only, never a candidate's settings, among which there are keys."""
        return {"class_name": self.class_name(), "llms": list(self.llms), "role": self.role, **self.metadata.model_dump()}

    def get_tool_calls_from_response(
        self,
        response: ChatResponse,
        error_on_no_tool_call: bool = True,
        **kwargs: Any,
    ) -> list[Any]:
        """The tool calls of an answer, read by the candidate that gave it."""
        return tool_calls(self.llms, response, error_on_no_tool_call=error_on_no_tool_call, **kwargs)

    def __repr__(self) -> str:
        """Names only: the candidates' own representations hold keys."""
        return f"{type(self).__name__}(llms={list(self.llms)!r}, role={self.role!r})"

    __str__ = __repr__

    def __getstate__(self) -> dict[str, Any]:
        """The settings, without the candidates, who hold keys, and without what belongs to this process."""
        behind = {"llms", "router", "outcome_log", "prepare_messages", "judge", "callback_manager"}
        kept = {name: value for name, value in self.__dict__.items() if name not in behind}
        return {"settings": kept, "metadata": self._metadata, "fields_set": set(self.__pydantic_fields_set__) - behind}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """An LLM without candidates, until some are assigned."""
        made = type(self).model_construct(_fields_set=state["fields_set"], **state["settings"], llms={})
        object.__setattr__(self, "__dict__", made.__dict__)
        object.__setattr__(self, "__pydantic_fields_set__", made.__pydantic_fields_set__)
        object.__setattr__(self, "__pydantic_extra__", made.__pydantic_extra__)
        object.__setattr__(self, "__pydantic_private__", made.__pydantic_private__)
        self._metadata = state["metadata"]

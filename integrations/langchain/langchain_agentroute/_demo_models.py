"""The demo's candidates: chat models over local servers, and recorded answers for models that are not run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from rich.progress import Progress, TaskID

from agentroute.collection import Answer, Ladder, PoolEntry
from agentroute.local import LocalServer, local_model
from agentroute.outcomes import OutcomeLog
from agentroute.types import Outcome

__all__ = ["Candidates", "LiveOnly", "RecordedChatModel", "start_models"]

_CALL_SECONDS = 120.0


class RecordedChatModel(BaseChatModel):
    """Gives the answers that a model once gave. It stands for a model that is not run, and knows the log's questions only.

    Args:
        model: The model's id.
        answers: Its answers by prompt.
    """

    model: str
    answers: dict[str, Any]

    @property
    def _llm_type(self) -> str:
        return "agentroute-recorded"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002  # LangChain's signature
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002  # likewise
        **_kwargs: Any,
    ) -> ChatResult:
        answer: Answer = self.answers[messages[-1].text]
        message = AIMessage(answer.text, response_metadata={"model_name": self.model})
        if answer.usage is not None:
            tokens = answer.usage.input_tokens, answer.usage.output_tokens
            message.usage_metadata = UsageMetadata(input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens))
        return ChatResult(generations=[ChatGeneration(message=message)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The models of the demo.

    Attributes:
        models: Chat models by id.
        played: The recorded answers of those that are not run, by id and task id.
    """

    models: Mapping[str, BaseChatModel]
    played: Mapping[str, Mapping[str, Answer]]

    def recorded(self, model: str, task: str) -> Answer | None:
        """The recorded answer that was given; `None` = the model answered live."""
        return self.played[model][task] if model in self.played else None


class LiveOnly:
    """An outcome log in front of another one that lets the outcomes of live models through: a recorded answer is none."""

    def __init__(self, log: OutcomeLog, live: Collection[str]) -> None:
        self._log = log
        self._live = frozenset(live)

    def append(self, outcome: Outcome, /) -> None:
        """Stores the outcome of a live model."""
        self.extend([outcome])

    def extend(self, outcomes: Iterable[Outcome], /) -> None:
        """Stores those of live models."""
        self._log.extend([outcome for outcome in outcomes if outcome.model in self._live])

    def feedback(self, decision_id: str, score: float, /, *, source: str = "user", idempotency_key: str | None = None) -> bool:
        """As the other log."""
        return self._log.feedback(decision_id, score, source=source, idempotency_key=idempotency_key)

    def __iter__(self) -> Iterator[Outcome]:
        """As the other log."""
        return iter(self._log)

    def __len__(self) -> int:
        """As the other log."""
        return len(self._log)


def start_models(
    entries: tuple[PoolEntry, ...], live: tuple[str, ...], ladder: Ladder, stack: ExitStack, bar: Progress
) -> Candidates:
    """Starts a server for each live model, downloading what is absent, and makes a chat model for each entry.

    Raises:
        ModelUnavailableError: A model's file cannot be had.
        MissingExtraError: The local runtime is not installed.
    """
    models: dict[str, BaseChatModel] = {}
    played: dict[str, Mapping[str, Answer]] = {}
    for entry in entries:
        name = entry.card.id
        if name in live:
            models[name] = _serve(entry, stack, bar)
        else:
            played[name] = ladder.answers[name]
            by_prompt = {ladder.tasks[task].prompt: answer for task, answer in ladder.answers[name].items()}
            models[name] = RecordedChatModel(model=name, answers=by_prompt)
    return Candidates(models=models, played=played)


def _serve(entry: PoolEntry, stack: ExitStack, bar: Progress) -> ChatOpenAI:
    name = str(entry.local)
    steps: dict[str, TaskID] = {}

    def progress(what: str, fraction: float) -> None:
        if what not in steps:
            steps[what] = bar.add_task(what, total=1.0)
        bar.update(steps[what], completed=fraction)

    server = LocalServer(name, context=entry.card.context_window or 2048, progress=progress)
    step = bar.add_task(f"starting {local_model(name).title}", total=1)
    stack.enter_context(server)
    bar.update(step, completed=1)
    return ChatOpenAI(
        model=server.model,
        base_url=server.base_url,
        api_key=SecretStr(server.api_key),
        temperature=0,
        max_retries=0,
        timeout=_CALL_SECONDS,
        extra_body={"cache_prompt": False},
    )

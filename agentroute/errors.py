"""Every error and warning of agentroute, in one tree.

```text
AgentRouteError
├── ConfigError (ValueError)               a wrong argument, file or combination
│   ├── UnknownModelError                  a model that the pool does not hold        .model .known
│   ├── DuplicateModelError                two cards with one id                      .model
│   └── EmbedderMismatchError              vectors of another embedder                .expected .found
├── DataError (ValueError)                 logged data that cannot be right
├── NotFittedError (ValueError, AttributeError)
├── NoEligibleModelError                   every model is ruled out                   .reasons
├── BudgetError                            a budget that nothing keeps to, or that is spent  .budget .cheapest
├── PriceUnknownError (LookupError)        a policy needs a price or cost             .models
├── StorageError                           the outcome log cannot be read or written
├── ArtefactError (ValueError)             a saved router is damaged or foreign       .path
├── MissingExtraError (ImportError)        an optional dependency is not installed    .extra
├── MissingSignalError (LookupError)       an answer lacks what a scorer reads        .signal .scorer
├── DeadlineExceededError (TimeoutError)   a model or a judge took too long           .model
└── AllModelsFailedError (ExceptionGroup)  no candidate answered                      .attempts

AgentRouteWarning (UserWarning)
├── PriceUnknownWarning                    a model's cost will be unknown, not zero
├── LowSupportWarning                      the log says too little; the default answers
├── RouterFailedWarning                    the router failed; the default answers
├── JudgeFailedWarning                     a judge failed; the next model is asked
├── BudgetOverrunWarning                   a call cost more than was set aside for it
├── OutcomeDroppedWarning                  an outcome could not be logged
└── OutcomesSkippedWarning                 logged queries that nothing can be learned from
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

__all__ = [
    "AgentRouteError",
    "AgentRouteWarning",
    "AllModelsFailedError",
    "ArtefactError",
    "BudgetError",
    "BudgetOverrunWarning",
    "ConfigError",
    "DataError",
    "DeadlineExceededError",
    "DuplicateModelError",
    "EmbedderMismatchError",
    "JudgeFailedWarning",
    "LowSupportWarning",
    "MissingExtraError",
    "MissingSignalError",
    "NoEligibleModelError",
    "NotFittedError",
    "OutcomeDroppedWarning",
    "OutcomesSkippedWarning",
    "PriceUnknownError",
    "PriceUnknownWarning",
    "RouterFailedWarning",
    "StorageError",
    "UnknownModelError",
]


class AgentRouteError(Exception):
    """Root of all errors that agentroute raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets an error be copied, and sent between processes, whatever its constructor takes."""
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[AgentRouteError], args: tuple[Any, ...]) -> AgentRouteError:
    """An error made anew from its message: constructors of our own would make a message of the message."""
    made = kind.__new__(kind, *args)
    super(AgentRouteError, made).__init__(*args)
    return made


class ConfigError(AgentRouteError, ValueError):
    """An argument, a file or a combination of them is wrong; the message says what to do."""


class UnknownModelError(ConfigError):
    """A model id is not in the pool."""

    def __init__(self, model: str, known: Iterable[str], *, where: str = "the pool") -> None:
        self.model = model
        self.known = tuple(known)
        super().__init__(f"unknown model {model!r}: {where} knows {', '.join(map(repr, self.known)) or 'no model'}")


class DuplicateModelError(ConfigError):
    """Two cards of one pool share an id."""

    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(f"two models are called {model!r}: give each card of a pool its own id")


class EmbedderMismatchError(ConfigError):
    """Vectors were made by another embedder than the one in use, so that their distances mean nothing."""

    def __init__(self, expected: object, found: object) -> None:
        self.expected = expected
        self.found = found
        super().__init__(f"this was made with the embedder {expected}, not with {found}: pass that embedder, or fit again")


class DataError(AgentRouteError, ValueError):
    """Logged data that cannot be right, such as a quality of 7."""


class NotFittedError(AgentRouteError, ValueError, AttributeError):
    """`fit` has not been called yet."""


class NoEligibleModelError(AgentRouteError):
    """No model of the pool may answer this query.

    Attributes:
        reasons: For every model, why it is ruled out.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        listed = "; ".join(f"{model}: {reason}" for model, reason in self.reasons.items())
        super().__init__(f"no model may answer this query ({listed or 'the pool is empty'})")


class BudgetError(AgentRouteError):
    """A budget that nothing keeps to, or of which too little is left.

    Attributes:
        budget: USD that may be spent, or that are left.
        cheapest: USD of the cheapest way; `None` = there is none at any price.
    """

    def __init__(self, message: str, *, budget: float, cheapest: float | None = None) -> None:
        self.budget = budget
        self.cheapest = cheapest
        super().__init__(message)


class PriceUnknownError(AgentRouteError, LookupError):
    """Cost is weighed, and nobody knows what these models cost: they have neither a price nor a logged cost."""

    def __init__(self, models: Iterable[str]) -> None:
        self.models = tuple(models)
        super().__init__(
            f"no price and no logged cost for {', '.join(map(repr, self.models))}: "
            "give the models prices, on their cards or when a log with token counts is read "
            "(OutcomeTable.from_log(log, prices=...)), or log the billed costs"
        )


class StorageError(AgentRouteError):
    """The outcome log cannot be opened, read or written."""


class ArtefactError(AgentRouteError, ValueError):
    """A saved router is damaged, foreign or of another version; nothing of it was used."""

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {reason}")


class MissingExtraError(AgentRouteError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an optional dependency: pip install 'agentroute-sdk[{extra}]'")


class MissingSignalError(AgentRouteError, LookupError):
    """An answer does not carry what a scorer reads, such as log-probabilities that the provider did not send.

    Attributes:
        signal: What is missing, such as `"logprobs"`.
        scorer: The scorer that needs it.
    """

    def __init__(self, signal: str, scorer: str, advice: str = "") -> None:
        self.signal = signal
        self.scorer = scorer
        super().__init__(f"{scorer} needs {signal}, which the answer does not carry{': ' + advice if advice else ''}")


class DeadlineExceededError(AgentRouteError, TimeoutError):
    """A model had not answered, or a judge had not judged, when its time was up.

    Attributes:
        model: The model that was called, or whose answer was judged.
    """

    def __init__(self, model: str, what: str = "did not answer in time") -> None:
        self.model = model
        super().__init__(f"{model} {what}")


class AllModelsFailedError(AgentRouteError, ExceptionGroup):
    """Every candidate that was tried failed.

    Attributes:
        attempts: What was tried, in order, with its error, usage and cost.
    """

    attempts: tuple[Any, ...]

    def __new__(cls, message: str, errors: Sequence[Exception], *, attempts: Iterable[Any] = ()) -> Self:
        """An exception group is made here; `__init__` of its base takes no keyword."""
        self = super().__new__(cls, message, errors)
        self.attempts = tuple(attempts)
        return self

    def __init__(self, message: str, errors: Sequence[Exception], *, attempts: Iterable[Any] = ()) -> None:  # noqa: ARG002 # see __new__
        super().__init__(message, errors)

    def derive(self, excs: Sequence[Exception]) -> AllModelsFailedError:  # type: ignore[override]  # our group holds only Exceptions
        """Gives a group of the same kind for a part of the errors (PEP 654)."""
        return AllModelsFailedError(self.message, excs, attempts=self.attempts)


class AgentRouteWarning(UserWarning):
    """Root of all warnings of agentroute."""


class PriceUnknownWarning(AgentRouteWarning):
    """A model has no known price: its cost is unknown, which is not zero."""


class LowSupportWarning(AgentRouteWarning):
    """The log says too little about this query; the declared default answers."""


class RouterFailedWarning(AgentRouteWarning):
    """The router raised; the declared default answers."""


class JudgeFailedWarning(AgentRouteWarning):
    """A judge could not score an answer, or measured nothing that the router reads; said once for each kind of failure."""


class BudgetOverrunWarning(AgentRouteWarning):
    """A call cost more than was set aside for it, as where its answer has no limit: a budget may be exceeded."""


class OutcomeDroppedWarning(AgentRouteWarning):
    """An outcome could not be queued or written; it is counted as dropped."""


class OutcomesSkippedWarning(AgentRouteWarning):
    """Queries of a log have neither a text nor a vector of the embedder in use; the others are learned from."""

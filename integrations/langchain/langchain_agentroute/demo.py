"""The demo behind `agentroute demo`: real questions, real models on this machine, a router that has learned which to ask.

It needs the extra `agentroute-sdk[demo]`. Nothing is sent anywhere; models that are not on this machine yet are downloaded.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from agentroute.cli.figures import usd
from agentroute.collection import Ladder, Task, load_ladder, pool_of, verify
from agentroute.embedders import StaticEmbedder
from agentroute.evaluation import Evaluation, evaluate
from agentroute.local import local_model
from agentroute.outcomes import OutcomeTable, QueuedOutcomeLog, SqliteOutcomeLog
from agentroute.policies import UtilityPolicy
from agentroute.pool import ModelPool
from agentroute.router import Router
from agentroute.types import Candidate, Decision
from langchain_agentroute import _demo_report as report
from langchain_agentroute._demo_models import Candidates, LiveOnly, start_models
from langchain_agentroute._record import routing_decision
from langchain_agentroute.chat_models import RoutedChatModel

__all__ = ["demo"]

Size = Literal["tiny", "default", "full"]

_POOLS: dict[str, tuple[str, ...]] = {
    "tiny": ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"),
    "default": ("smollm2-135m", "qwen2.5-coder-0.5b"),
    "full": ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"),
}
_LIVE = {"tiny": _POOLS["tiny"][:1], "default": _POOLS["default"], "full": _POOLS["full"]}
_HELD_OUT = 0.3
_MORE_SPLITS = 5
_MULTIPLES = (1.0, 4.0)
_BATCH = 64


def demo(*, size: Size = "default", questions: int = 14, seed: int = 0, log: Path | None = None) -> None:
    """Runs the demo; the entry point of the group `agentroute.demo`.

    Args:
        size: `"default"` runs SmolLM2-135M and Qwen2.5-Coder-0.5B; `"full"` adds Qwen2.5-Coder-1.5B; `"tiny"` runs SmolLM2
            alone, and recorded answers of the other two stand for them.
        questions: Held-out questions to answer live.
        seed: Of the split and of the choice of questions.
        log: Where the live outcomes are kept; `None` = nowhere.
    """
    console = Console(highlight=False)
    ladder, pool = load_ladder(), _POOLS[size]
    entries = tuple(entry for entry in ladder.entries if entry.card.id in pool)
    report.opening(console, [local_model(name).title for name in pool], len(ladder.table), live=len(_LIVE[size]))
    with ExitStack() as stack:
        if log is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="agentroute-demo-"))
        outcomes = stack.enter_context(SqliteOutcomeLog(log or Path(folder) / "outcomes.sqlite"))
        queued = QueuedOutcomeLog(LiveOnly(outcomes, _LIVE[size]))
        stack.callback(queued.close)
        with _progress(console) as bar:
            candidates = start_models(entries, _LIVE[size], ladder, stack, bar)
            table = _embedded(_unlabelled(ladder.table.select(pool)), bar)
            train, test = table.split(_HELD_OUT, seed=seed)
            router = _fit(Router(pool_of(entries)), train, bar)
        policies = policies_for(train)
        report.learned(console, router, train, test, policies)
        asked = sample(ladder, test, questions, seed)
        routers = {name: _with_policy(router, policy) for name, policy in policies.items()}
        live = _answer_all(console, asked, routers, candidates, queued)
        shown = evaluate(router, test, policies=policies, reference=train, baselines=report.BASELINES)
        report.closing(console, shown)
        with _progress(console) as bar:
            others = over_splits(pool_of(entries), table, range(seed + 1, seed + 1 + _MORE_SPLITS), bar)
        report.splits(console, [shown, *others])
        report.live_table(console, ladder, pool, shown, live)
        if log is not None:
            queued.flush(5.0)
            console.print(f"\nThe live outcomes are in {log}: see `agentroute log {log}`.", soft_wrap=True, markup=False)


def policies_for(train: OutcomeTable) -> dict[str, UtilityPolicy]:
    """Two willingnesses to pay, by a rule that sees the training part only.

    The unit is what the training part charges for one more right answer when all queries go to the best model instead of the
    cheapest: (difference of mean costs) / (difference of mean qualities). The thrifty policy pays 1 such price for a right
    answer, the generous one 4.
    """
    quality, cost = np.nanmean(train.quality, axis=0), np.nanmean(train.cost, axis=0)
    best, cheapest = int(np.argmax(quality)), int(np.argmin(cost))
    gained, paid = quality[best] - quality[cheapest], cost[best] - cost[cheapest]
    # When one model is both, any price does: nothing is ever worth more than it.
    rate = float(paid / gained) if gained > 0 and paid > 0 else float(cost[cheapest])
    names = ("routed, thrifty", "routed, generous")
    return {name: UtilityPolicy(willingness_to_pay=rate * times) for name, times in zip(names, _MULTIPLES, strict=True)}


def sample(ladder: Ladder, test: OutcomeTable, count: int, seed: int) -> list[Task]:
    """Held-out questions, drawn evenly over the kinds: one of each kind in turn, until there are enough."""
    rng = np.random.default_rng(seed)
    tasks = [ladder.tasks[str(query.id)] for query in test.queries]
    kinds: dict[str, list[Task]] = {}
    for i in rng.permutation(len(tasks)).tolist():
        kinds.setdefault(str(tasks[i].task), []).append(tasks[i])
    order = [kinds[name] for name in sorted(kinds)]
    chosen: list[Task] = []
    while len(chosen) < min(count, len(tasks)):
        chosen.extend(group.pop() for group in order if group)
    return chosen[:count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One live answer of one policy."""

    task: Task
    policy: str
    model: str
    why: str
    text: str
    score: float
    tokens: tuple[int, int]
    cost: float
    latency: float
    recorded: bool


def _answer_all(
    console: Console, asked: list[Task], routers: dict[str, Router], candidates: Candidates, log: QueuedOutcomeLog
) -> list[Answered]:
    """Asks every question under every policy; where both choose the same model, one call serves both."""
    prompt = ChatPromptTemplate.from_messages([("user", "{question}")])
    # This is the whole integration: a routed model stands where any chat model would.
    routed = {name: RoutedChatModel(models=candidates.models, router=router, outcome_log=log) for name, router in routers.items()}
    answers: list[Answered] = []
    with _progress(console) as bar:
        counter = bar.add_task("answering held-out questions", total=len(asked))
        for number, task in enumerate(asked, 1):
            given: list[Answered] = []
            for policy, model in routed.items():
                decision = routers[policy].route(task.prompt)
                same = next((one for one in given if one.model == decision.model), None)
                if same is not None:
                    given.append(replace(same, policy=policy, why=why(decision)))
                    continue
                chain = prompt | model.bind(max_tokens=task.max_tokens)
                message = chain.invoke({"question": task.prompt})
                given.append(_answered(task, policy, decision, message, candidates))
                if not given[-1].recorded:
                    model.record_feedback(message, given[-1].score, source="verifier")
            report.question(console, number, given)
            answers.extend(given)
            bar.advance(counter)
    return answers


def why(decision: Decision) -> str:
    """What the chosen model was expected to be worth, against the next one; the router's own reason where it had no choice."""
    if decision.by != "policy" or len(decision.candidates) < 2:
        return decision.reason
    first, second = decision.candidates[:2]
    return f"expected {_expected(first)}; next {second.model}, {_expected(second)}"


def _expected(candidate: Candidate) -> str:
    chance = "?" if candidate.quality is None else f"{candidate.quality:.2f}"
    return f"{chance} right for {usd(candidate.cost)}"


def _answered(task: Task, policy: str, decision: Decision, message: AIMessage, candidates: Candidates) -> Answered:
    record = routing_decision(message)
    if record is None:
        raise RuntimeError("a routed answer without its record")
    attempt, text = record["attempts"][-1], message.text
    recorded = candidates.recorded(attempt["model"], task.id)
    usage = attempt["usage"]
    return Answered(
        task=task,
        policy=policy,
        model=attempt["model"],
        why=why(decision),
        text=text,
        score=verify(text, task.verifier),
        tokens=(usage["input_tokens"], usage["output_tokens"]),
        cost=attempt["cost"],
        latency=attempt["latency"] if recorded is None else recorded.latency,
        recorded=recorded is not None,
    )


def _unlabelled(table: OutcomeTable) -> OutcomeTable:
    """Without the kinds of the questions: a chat does not tell them either, so the router has to see them in the text."""
    return replace(table, queries=tuple(replace(query, task=None) for query in table.queries))


def _embedded(table: OutcomeTable, bar: Progress) -> OutcomeTable:
    embedder = StaticEmbedder()
    texts = [query.text for query in table.queries]
    step = bar.add_task("embedding logged questions", total=len(texts))
    vectors = []
    for start in range(0, len(texts), _BATCH):
        vectors.append(embedder.embed(texts[start : start + _BATCH]))
        bar.advance(step, len(vectors[-1]))
    return table.with_embeddings(np.concatenate(vectors), embedder.fingerprint)


def _fit(router: Router, train: OutcomeTable, bar: Progress) -> Router:
    step = bar.add_task("fitting the router", total=1)
    fitted = router.fit(train)
    bar.advance(step)
    return fitted


def over_splits(pool: ModelPool, table: OutcomeTable, seeds: Iterable[int], bar: Progress) -> list[Evaluation]:
    """The same evaluation on other random splits: one split may be lucky."""
    found = []
    for seed in bar.track(list(seeds), description="repeating on other splits"):
        train, test = table.split(_HELD_OUT, seed=seed)
        found.append(
            evaluate(Router(pool).fit(train), test, policies=policies_for(train), reference=train, baselines=report.BASELINES)
        )
    return found


def _with_policy(router: Router, policy: UtilityPolicy) -> Router:
    """The same router, what it has learned shared, with another policy."""
    other = copy.copy(router)
    other.policy = policy
    return other


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)

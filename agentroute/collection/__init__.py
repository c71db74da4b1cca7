"""Making an outcome log: tasks with verifiers, models that answer them, and a run that can be resumed."""

from __future__ import annotations

from agentroute.collection._answerers import Answer, Answerer, ChatEndpoint, EndpointError
from agentroute.collection._ladder import Ladder, load_ladder
from agentroute.collection._pool import PoolEntry, pool_of, read_pool
from agentroute.collection._run import CollectReport, Progress, collect, outcome_of
from agentroute.collection._tasks import Task, read_tasks
from agentroute.collection._team import RecordedTeam, load_team, runs_of, team_spec
from agentroute.collection._verifiers import verify

__all__ = [
    "Answer",
    "Answerer",
    "ChatEndpoint",
    "CollectReport",
    "EndpointError",
    "Ladder",
    "PoolEntry",
    "Progress",
    "RecordedTeam",
    "Task",
    "collect",
    "load_ladder",
    "load_team",
    "outcome_of",
    "pool_of",
    "read_pool",
    "read_tasks",
    "runs_of",
    "team_spec",
    "verify",
]

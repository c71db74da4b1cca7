"""The loop: every call is logged, users say what they think of the answer, and the next fit learns from it."""

import tempfile
from pathlib import Path

from langchain_core.language_models.fake_chat_models import FakeListChatModel

from agentroute import OutcomeTable, Router, SqliteOutcomeLog
from langchain_agentroute import RoutedChatModel, routing_decision

log = SqliteOutcomeLog(Path(tempfile.mkdtemp()) / "outcomes.sqlite")
model = RoutedChatModel(
    models={"small": FakeListChatModel(responses=["Canberra."]), "large": FakeListChatModel(responses=["Canberra."])},
    router=Router(["small", "large"], default="small"),  # not fitted yet: the default answers, and every call is logged
    outcome_log=log,
)

answer = model.invoke("What is the capital of Australia?")

# Feedback goes to the decision behind the answer. Where the message is gone, its decision_id will do.
model.record_feedback(answer, 1.0, idempotency_key="click-1")
model.record_feedback(routing_decision(answer)["decision_id"], 1.0, idempotency_key="click-1")  # sent twice, counted once

model.outcome_log.flush(5.0)  # logging happens beside the call; wait for it here, to show what was written
for outcome in log:
    print(f"{outcome.model} answered, quality {outcome.quality}, prompt stored: {bool(outcome.query.text)}")

table = OutcomeTable.from_log(log)
print(f"{len(table)} query to learn from, once there are some dozens of them: Router(...).fit(log)")

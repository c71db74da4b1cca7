"""From a file of past answers to a router in a folder: fit, judge on questions it has not seen, save, load."""

import json
import tempfile
from pathlib import Path

from agentroute import ModelCard, ModelPool, OutcomeTable, Price, Router, UtilityPolicy
from agentroute.evaluation import evaluate

folder = Path(tempfile.mkdtemp())

# Your log: one line for each answer, with a score in [0, 1] and what it cost. Here the small model is right about capitals
# and wrong about sums, and the large one is right about both, at twenty times the price.
places = (
    "France Peru Japan Kenya Norway Egypt Chile Nepal Ghana Spain Cuba Poland Greece Kuwait Fiji Laos Mali Oman Togo Qatar "
    "Malta Cyprus Latvia Jordan Sudan Chad Angola Benin Bolivia Brazil Canada Denmark Ecuador Gabon Haiti India Iraq Iran Syria "
    "Finland"
).split()
questions = [f"What is the capital of {place}?" for place in places]
questions += [f"What is {a} times {b} plus {a}?" for a in range(13, 23) for b in (17, 23, 29, 31)]
lines = []
for question in questions:
    is_sum = "times" in question
    lines.append({"prompt": question, "model": "small", "score": 0.0 if is_sum else 1.0, "cost_usd": 0.0001, "latency_s": 0.4})
    lines.append({"prompt": question, "model": "large", "score": 1.0, "cost_usd": 0.002, "latency_s": 1.5})
(folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))

train, test = OutcomeTable.from_jsonl(folder / "log.jsonl").split(test=0.3, seed=0)
pool = ModelPool(
    [
        ModelCard(id="small", price=Price(input=0.1, output=0.4)),
        ModelCard(id="large", price=Price(input=2.0, output=8.0)),
    ]
)

# A right answer instead of a wrong one is worth two cents here.
router = Router(pool, policy=UtilityPolicy(willingness_to_pay=0.02)).fit(train)
router.save(folder / "router")

router = Router.load(folder / "router")
for question in ("What is the capital of Italy?", "What is 31 times 37 plus 5?"):
    decision = router.route(question)
    print(f"{question}  ->  {decision.model} ({decision.reason})")

# Judge it on the questions that it has not seen, beside the baselines, with 95 % intervals.
for row in evaluate(router, test, reference=train).rows:
    print(f"{row.name:12} quality {row.quality}   USD a call {row.cost}")

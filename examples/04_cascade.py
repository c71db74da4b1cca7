"""Ask the cheap model first: a dear one is called only when the answer will not do.

The models here are scripted, so that the example runs anywhere; put `ChatOpenAI(...)`, `ChatAnthropic(...)` or any other chat
model in their place.
"""

from agentroute import ModelCard, Price
from agentroute.types import Reply
from langchain_agentroute import CascadeChatModel, routing_decision
from langchain_agentroute.testing import ScriptedChatModel

small = ScriptedChatModel(model_name="small", replies=["Paris.", "I do not know."])
large = ScriptedChatModel(model_name="large", replies=["It follows by induction on n: ..."])


def good(reply: Reply) -> float:
    """A first judge, until a scorer or a learned cascade does better: who says so does not know."""
    return 0.0 if "do not know" in reply.text else 1.0


model = CascadeChatModel(
    models={"small": small, "large": large},
    judge=good,
    cards=[ModelCard(id="small", price=Price(input=0.1, output=0.4)), ModelCard(id="large", price=Price(input=2.0, output=8.0))],
)

for question in ("What is the capital of France?", "Prove that the sum of the first n odd numbers is n squared."):
    answer = model.invoke(question)
    record = routing_decision(answer)
    if record is not None:
        print(answer.text)
        print("  asked:", " -> ".join(f"{one['model']} ({one['score']})" for one in record["attempts"]))
        print(f"  cost in all: ${record['total_cost']:.6f}")

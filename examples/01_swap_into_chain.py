"""One changed line: a chain that called one model now picks among two.

The models here are scripted, so that the example runs anywhere; put `ChatOpenAI(...)`, `ChatAnthropic(...)` or any other chat
model in their place.
"""

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from agentroute import Query
from langchain_agentroute import RoutedChatModel, routing_decision

small = FakeListChatModel(responses=["Paris."])
large = FakeListChatModel(responses=["By induction on n: ..."])


def by_length(query: Query) -> str:
    """A first rule, until a log has taught better: long questions go to the large model."""
    return "large" if len(query.text) > 60 else "small"


# This line took the place of `model = large`.
model = RoutedChatModel(models={"small": small, "large": large}, router=by_length, default="large")

prompt = ChatPromptTemplate.from_messages([("system", "Answer in one sentence."), ("human", "{question}")])
chain = prompt | model | StrOutputParser()

print(chain.invoke({"question": "What is the capital of France?"}))
print(chain.invoke({"question": "Prove that the sum of the first n odd numbers is n squared, for every n."}))

# Every answer says who gave it, and why.
record = routing_decision(model.invoke("What is the capital of France?"))
if record is not None:
    print(f"{record['answered_by']}: {record['reason']}")

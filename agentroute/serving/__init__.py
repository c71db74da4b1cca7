"""What serves one call of a routed model, whatever the framework: deciding, failing over, judging, and booking the outcome.

A plug-in turns its framework's messages into `Turn`s and asks a `Decider` (or a `CascadeDecider`) for a decision; it derives from
`RoutedCall` (or `CascadeCall`) what makes the calls, and from `Watch` what reads an answer. Everything else is here, once.
"""

from agentroute.serving._calls import RoutedCall
from agentroute.serving._candidates import Cards, cards_of, ceiling, most_in
from agentroute.serving._climbing import CascadeCall
from agentroute.serving._deciding import Asked, Decided, Decider, Rule, SupportsRoute, Undecided, known_model
from agentroute.serving._options import check_cascade, check_log, check_names, record_feedback
from agentroute.serving._planning import CascadeDecider, Climb, JudgesVoice, SupportsPlan
from agentroute.serving._records import priced, stamp, totals_in
from agentroute.serving._retry import Mistake, bubbling, is_control_flow, is_overflow, mistakes, refused, retryable
from agentroute.serving._teams import Part, Size, book, forgiving
from agentroute.serving._told import finish_in, limit_in
from agentroute.serving._turns import RECORD, Sticky, StickyCache, Turn, question
from agentroute.serving._watch import Spent, Watch

__all__ = [
    "RECORD",
    "Asked",
    "Cards",
    "CascadeCall",
    "CascadeDecider",
    "Climb",
    "Decided",
    "Decider",
    "JudgesVoice",
    "Mistake",
    "Part",
    "RoutedCall",
    "Rule",
    "Size",
    "Spent",
    "Sticky",
    "StickyCache",
    "SupportsPlan",
    "SupportsRoute",
    "Turn",
    "Undecided",
    "Watch",
    "book",
    "bubbling",
    "cards_of",
    "ceiling",
    "check_cascade",
    "check_log",
    "check_names",
    "finish_in",
    "forgiving",
    "is_control_flow",
    "is_overflow",
    "known_model",
    "limit_in",
    "mistakes",
    "most_in",
    "priced",
    "question",
    "record_feedback",
    "refused",
    "retryable",
    "stamp",
    "totals_in",
]

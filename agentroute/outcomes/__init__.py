"""What happened when models answered: logs that keep it, and the table that is learned from.

`SqliteOutcomeLog` keeps outcomes durably, `QueuedOutcomeLog` in front of it keeps logging off the caller's path, and
`OutcomeTable` turns a log or a file into dense arrays.
"""

from agentroute.outcomes._log import MemoryOutcomeLog, OutcomeLog
from agentroute.outcomes._queue import QueuedOutcomeLog
from agentroute.outcomes._sqlite import SqliteOutcomeLog
from agentroute.outcomes._table import OutcomeTable

__all__ = ["MemoryOutcomeLog", "OutcomeLog", "OutcomeTable", "QueuedOutcomeLog", "SqliteOutcomeLog"]

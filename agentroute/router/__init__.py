"""The router: an estimator and a policy over a pool, saved as a folder."""

from agentroute.router._artefact import read_artefact, write_artefact
from agentroute.router._explanation import Explanation, Neighbour
from agentroute.router._router import Router

__all__ = ["Explanation", "Neighbour", "Router", "read_artefact", "write_artefact"]

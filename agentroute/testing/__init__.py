"""What your own parts and agents can be tested with: contract suites, an embedder, a planted log, a scripted model server.

```python
import pytest
from agentroute.testing import estimator_checks

@pytest.mark.parametrize("check", estimator_checks(MyEstimator), ids=lambda check: check.__name__)
def test_contract(check):
    check()
```
"""

from __future__ import annotations

from agentroute.testing._contracts import HashEmbedder, estimator_checks, planted_table, policy_checks
from agentroute.testing._server import ScriptedServer

__all__ = ["HashEmbedder", "ScriptedServer", "estimator_checks", "planted_table", "policy_checks"]

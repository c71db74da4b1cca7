"""`python -m agentroute`: the command line."""

import sys

from agentroute.cli import main

sys.exit(main())

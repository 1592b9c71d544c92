"""``python -m llm_rollout`` is the ``llm-rollout`` command."""

import sys

from llm_rollout.cli import main

sys.exit(main())

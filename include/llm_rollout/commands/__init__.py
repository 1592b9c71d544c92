"""The subcommands of ``llm-rollout``, one module each with ``SUMMARY``, ``arguments(parser)`` and ``run(options)``."""

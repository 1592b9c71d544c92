"""The lint of LeaderWorkerSets that serve vLLM, by what it looks at: groups, pods, commands, monitoring."""

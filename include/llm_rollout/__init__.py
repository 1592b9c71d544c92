"""Roll out large language models on Kubernetes LeaderWorkerSets without dropping a request."""

__version__ = "0.1.0"

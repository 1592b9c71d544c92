"""The kubelet of all nodes: runs containers as sandboxed processes, each pod in a network namespace of its own."""

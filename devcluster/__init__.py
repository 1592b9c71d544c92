"""A Kubernetes cluster on one Linux machine: real control plane, no containers, no root needed."""

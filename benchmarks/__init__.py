"""Measurements against peers: each prints its ratio, both sides measured in the same run."""

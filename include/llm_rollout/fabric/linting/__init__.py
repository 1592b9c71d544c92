"""The lint of RDMA settings, by what it looks at: networks, claims, pods, NCCL's settings."""

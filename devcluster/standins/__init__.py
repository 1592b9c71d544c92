"""Programs with the flags and outputs of the originals, for a machine without GPUs and RDMA."""

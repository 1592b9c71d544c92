"""Bring one commit of a model repository onto a store: every byte proven, resumable, published by one rename.

The hub's own client serves for metadata only: its downloads cannot resume in another process, compare no digests,
show half a model to readers and never flush to disk (docs/decisions/0005-own-downloader.md).
"""

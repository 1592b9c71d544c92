"""Is the candidate worse than stable? Pairs of answers in, a decision with its reason out; nothing here does I/O.

``judge`` decides after every round, ``comparison`` drives rounds until it has, ``first_deployment`` judges a candidate
that has nothing to be compared with. ``adapters.pairs`` asks the servers.
"""

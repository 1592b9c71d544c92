"""Real inference engines for the devcluster, in environments of their own in the cache."""

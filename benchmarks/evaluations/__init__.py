"""How a canary ends on the devcluster, through the real steps, whatever happens to either side meanwhile."""

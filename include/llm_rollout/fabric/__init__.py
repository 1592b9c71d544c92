"""Is the network between these nodes fit for this model: measure pairs, name what is bad, or say that it is unknown."""

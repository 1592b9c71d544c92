"""How fast and how rightly failed cold starts are explained, on the devcluster."""

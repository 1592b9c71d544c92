"""How fast rounds are judged."""

"""Who is blamed for a bad fabric: our attribution beside the rules that peers use, on simulated fabrics."""

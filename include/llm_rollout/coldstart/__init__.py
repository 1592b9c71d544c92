"""What a starting group is doing, when it has stopped getting anywhere, and why it died."""

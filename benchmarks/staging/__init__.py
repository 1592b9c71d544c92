"""How fast and how dear verified staging is beside the hub's own client, curl and cat."""

"""What judges of canaries decide: ours beside the rules of peers, on simulated rollouts."""

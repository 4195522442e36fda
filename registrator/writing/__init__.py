"""From what is wanted to what the store says: plans, commits, claims, and the node's own key."""

"""From a container to what it should publish: every rule, and the reason it gives."""

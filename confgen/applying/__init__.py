"""From a rendered configuration to workers that serve it, and back when they do not."""

"""Docker -> store: watches container engines and records what they publish."""

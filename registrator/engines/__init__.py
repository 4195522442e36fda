"""Container engines: what is asked of them, how their events read, and swarms as one more engine."""

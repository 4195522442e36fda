"""The status API over the whole catalog, read-only."""

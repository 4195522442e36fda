"""Whole zones for secondaries, and telling them that a zone changed."""

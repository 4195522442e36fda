"""Contract tests that run against every implementation of a port."""

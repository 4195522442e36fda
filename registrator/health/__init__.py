"""Whether a port is ready and well: first connections, CHECK_* checks, thresholds, damping and draining."""

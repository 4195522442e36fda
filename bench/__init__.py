"""Benchmarks: each measures a budget beside a peer, in one run."""

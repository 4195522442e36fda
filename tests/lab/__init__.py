"""Tests of the lab and tests that run in it."""

"""Tests of confgen."""

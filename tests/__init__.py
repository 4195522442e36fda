"""Tests of Pilotfish."""

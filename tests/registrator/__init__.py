"""Tests of the registrator."""

"""Measurements side by side with how others do it; run by hand, never part of the tests."""

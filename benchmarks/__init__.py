"""Measures how fast everything is, against what the machine can do."""

"""Lesson 01: three memories for pairs, and how much each holds."""

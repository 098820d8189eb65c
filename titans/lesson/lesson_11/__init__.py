"""Lesson 11: what came after Titans, one choice at a time."""

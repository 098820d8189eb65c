"""Lesson 11: what came after Titans, and what a model of each size costs."""

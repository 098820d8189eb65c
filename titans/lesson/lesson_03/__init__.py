"""Lesson 03: surprise, momentum and forgetting in a memory of one matrix."""

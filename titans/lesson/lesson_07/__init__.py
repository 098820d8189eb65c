"""Lesson 07: memory as context, and MAC with its rules taken away one by one."""

"""Lesson 11: relatives, decisions and misprints, what it costs, and what nobody has shown yet."""

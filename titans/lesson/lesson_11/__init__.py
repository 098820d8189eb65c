"""Lesson 11: relatives, one choice swapped at a time, decisions and misprints, what it costs, what nobody has shown."""

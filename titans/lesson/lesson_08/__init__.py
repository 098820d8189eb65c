"""Lesson 08: memory beside, below and without attention, and what ablations can say."""

"""Lesson 10: a language model that reads source code byte by byte, and what its memory saves it."""

"""Lesson 10: a language model."""

"""Lesson 05: a chunk of writes as products of matrices, and what a chunk costs."""

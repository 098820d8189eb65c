"""Lesson 04: who trains what, a gradient through a gradient, and what a trained memory has learned."""

"""Lesson 06: persistent tokens, and what attention gives to them."""

"""Lesson 02: the memory module, its depth, its width and its writes."""

"""Lesson 09: a memory at test time, written, frozen, scaled and streamed."""

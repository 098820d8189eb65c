"""Lesson 11: what came before Titans and after it, as settings of one memory."""

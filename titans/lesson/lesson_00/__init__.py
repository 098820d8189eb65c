"""Lesson 00: six facts are told, time passes, and a trained model is asked."""

"""Lesson 08: MAG, MAL and LMM beside MAC, and what each of their parts is for."""

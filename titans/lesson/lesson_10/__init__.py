"""Room of lesson 10, "A language model": what its pictures, labs and exercises are made of."""

"""What all lessons share: figures, live pictures, the player, the exercises' engine, a memory of
one matrix."""

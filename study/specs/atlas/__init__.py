"""The parts of the atlas, one spec each: a task, half of a two-level design of four factors, and expected signs."""

"""Studies of flat-minima optimizers: what is run, what was measured, and what it means."""

"""Figures of the atlas: gains over many tasks, and what they move with."""

"""The results folder: its records, and the frame and findings that are read from them."""

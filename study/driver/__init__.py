"""What the commands call: options, opening a study, conducting it, its summary."""

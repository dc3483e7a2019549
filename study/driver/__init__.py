"""What the commands call: options, starting or resuming a study, conducting it, its summary."""

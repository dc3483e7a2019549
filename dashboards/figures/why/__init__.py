"""Why: sharpness, its relation to the gain, lines and planes between weights."""

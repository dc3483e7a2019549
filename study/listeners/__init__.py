"""Who hears of a running study and decides nothing: the terminal, and views for other tools."""

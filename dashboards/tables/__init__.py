"""The tables of a report, as data for the page, CSV and notebooks."""

"""What figures are made of: panels, dots, traces, fields."""

"""What training looks like: curves, cost, calibration."""

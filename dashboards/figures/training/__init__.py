"""What training looks like: curves, calibration."""

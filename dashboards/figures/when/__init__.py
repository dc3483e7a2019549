"""When flat minima help: forest, map of gains, slopes, decay."""

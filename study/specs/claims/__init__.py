"""One small spec for each published claim that the platform should be able to reproduce."""

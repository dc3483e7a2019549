"""Example tasks and the spec that runs them, which ``python -m study.new`` copies."""

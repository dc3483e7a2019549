"""From a `Job` to its `RunRecord`, without Ray."""

"""The atlas: gains of many studies under protocol 2, replicate by replicate, with what their problems are like."""

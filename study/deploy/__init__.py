"""Files for other systems: a Ray cluster, Slurm, Prometheus and Grafana. No code."""

"""Probes of trained weights: curvature, rises of the loss, lines and planes. They describe and decide nothing."""

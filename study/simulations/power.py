"""Power in closed form: what a simulation of exactly normal gains has to find."""

import math

from scipy.integrate import quad
from scipy.stats import chi2, norm, t


def power(gain: float, sd: float, n: int, delta: float, alpha: float) -> float:
    """Return the chance that a single comparison helps: p < alpha and a mean of at least δ.

    The mean is normal and, independent of it, the variance is chi-squared: given the spread that is seen, the mean
    must exceed the larger of δ and t · s / sqrt(n).
    """
    critical, error = float(t.isf(alpha / 2, n - 1)), sd / math.sqrt(n)

    def given_spread(u: float) -> float:
        needed = max(delta, critical * error * math.sqrt(float(chi2.ppf(u, n - 1)) / (n - 1)))
        return float(norm.sf((needed - gain) / error))

    return float(quad(given_spread, 0, 1, limit=200, epsabs=1e-6)[0])

"""Sequential tests of shares: evidence that may be looked at after every request, and stays honest.

For independent trials that succeed with probability p, the mixture of the likelihoods over a Beta(1/2, 1/2) prior
divided by the likelihood at p is a non-negative martingale that begins at 1 (Robbins 1970; Howard, Ramdas, McAuliffe
and Sekhon 2021). By Ville's inequality it ever exceeds 1/alpha with a probability of at most alpha, however often
somebody looks and whenever he stops. The product of two arms' martingales is one too, whatever decides which arm is
asked next; its minimum over all p that a hypothesis allows is evidence against the hypothesis as a whole.

Both functions return the natural logarithm of that evidence: at log(1/alpha) or more the hypothesis is rejected. They
depend on counts alone, so that counts of several processes may be added in any order.
"""

import math

PRIOR = 0.5  # of both outcomes: Jeffreys' prior, which loses least where p is near 0 or 1
BISECTIONS = 50  # of [0, 1]: beyond what a float can tell apart near the minimum
EDGE = 1e-12  # the logarithm of 0 is never needed: where p is 0, nothing has succeeded


def evidence_above(successes: int, trials: int, limit: float) -> float:
    """Returns the log evidence against: the probability of a success is at most `limit`."""
    if trials == 0 or successes / trials <= limit:
        return 0.0
    return _log_martingale(successes, trials, limit)


def evidence_of_more(
    successes: int, trials: int, other_successes: int, other_trials: int, tolerance: float = 0.0
) -> float:
    """Returns the log evidence against: the probability is at most `tolerance` above the other arm's."""
    if trials == 0 or other_trials == 0:
        return 0.0
    if successes / trials <= other_successes / other_trials + tolerance:
        return 0.0
    other = _least_likely_split(successes, trials, other_successes, other_trials, tolerance)
    first = _log_martingale(successes, trials, other + tolerance)
    return max(0.0, first + _log_martingale(other_successes, other_trials, other))


def _least_likely_split(s: int, n: int, s0: int, n0: int, tolerance: float) -> float:
    """Returns the other arm's p where the evidence against (p + tolerance, p) is least: a convex problem."""
    if tolerance == 0.0:
        return (s + s0) / (n + n0)
    low, high = 0.0, 1.0 - tolerance
    for _ in range(BISECTIONS):
        p = (low + high) / 2
        slope = -_slope(s, n, p + tolerance) - _slope(s0, n0, p)
        low, high = (low, p) if slope > 0 else (p, high)
    return (low + high) / 2


def _slope(successes: int, trials: int, p: float) -> float:
    """Returns the derivative of the log likelihood at p."""
    return successes / max(p, EDGE) - (trials - successes) / max(1 - p, EDGE)


def _log_martingale(successes: int, trials: int, p: float) -> float:
    failures = trials - successes
    mixture = _log_beta(PRIOR + successes, PRIOR + failures) - _log_beta(PRIOR, PRIOR)
    return mixture - successes * math.log(max(p, EDGE)) - failures * math.log(max(1 - p, EDGE))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

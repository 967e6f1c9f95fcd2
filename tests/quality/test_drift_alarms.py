"""How often requests from the very population of the training data are said to have drifted."""

import numpy as np

from deploy.bundle import Kind, Profile, Schema
from deploy.monitoring.drift import LEAST_ROWS, Verdict, drift_of

LOOKS = 1000
COLUMNS = 20
SCHEMA = Schema(tuple(f"c{j}" for j in range(COLUMNS)), Kind.REGRESSION)


def test_requests_of_the_same_population_seldom_drift() -> None:
    """One look in a thousand may alarm; of 1,000 looks more than 5 do with a chance of 6 in 10,000."""
    generator = np.random.default_rng(11)
    alarms = 0
    for _ in range(LOOKS):
        rows = generator.lognormal(size=(300 + LEAST_ROWS, COLUMNS)).astype(np.float32)
        profile = Profile.of(SCHEMA, rows[:300], rows[:300, 0])
        seen = rows[300:]
        counts, predictions = profile.count(seen), profile.count_predictions((), seen[:, 0])
        found = drift_of(profile, LEAST_ROWS, counts.tolist(), predictions.tolist())
        alarms += any(one.verdict is Verdict.DRIFTED for one in (found.prediction, *found.columns))
    assert alarms <= 5

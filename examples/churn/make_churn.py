"""Makes churn.csv: 7,000 customers of a telephone company that does not exist, and whether they left.

    python examples/churn/make_churn.py            # writes churn.csv beside this file, the same one each time

The table is made up: no real person is in it, and it is given to everybody under CC0 1.0. It has what real ones have:
texts and numbers beside each other, values missing with a reason and without, a skewed amount, a level that is rare
and one that only customers of the test part have, interactions that a linear model does not see, and noise that no
model can explain.
"""

import csv
from datetime import date, timedelta
from pathlib import Path

import numpy as np

ROWS = 7_000
SEED = 2026
TODAY = date(2026, 6, 30)
REGIONS = ("north", "south", "east", "west", "coast", "islands")
REGION_SHARES = (0.26, 0.24, 0.2, 0.17, 0.12, 0.01)  # the last one is rare
OVERSEAS = (39, 523, 2448)  # rows that study.yaml deals to the test part: a region that no model has seen
PAYMENTS = ("direct debit", "credit card", "invoice", "gift card")
DEVICES = ("phone A", "phone B", "phone C", "tablet", "router", "phone D", "phone E", "watch")


def make_rows() -> list[dict[str, object]]:
    """Returns the customers as records; None where a value is missing."""
    # numpy's legacy generator: the same seed gives the same rows with every later release
    draw = np.random.RandomState(SEED)
    months = np.minimum(draw.exponential(26, ROWS), 140).round().astype(int)
    contract = draw.choice(["monthly", "one year", "two years"], ROWS, p=[0.55, 0.25, 0.2])
    internet = draw.choice(["fibre", "dsl", "none"], ROWS, p=[0.45, 0.35, 0.2])
    region = draw.choice(REGIONS, ROWS, p=REGION_SHARES)
    payment = draw.choice(PAYMENTS, ROWS, p=[0.4, 0.27, 0.32, 0.01])
    device = draw.choice(DEVICES, ROWS, p=[0.3, 0.25, 0.2, 0.1, 0.08, 0.04, 0.02, 0.01])
    age = np.clip(draw.normal(46, 16, ROWS), 18, 95).round()
    family = draw.binomial(1, 0.35, ROWS).astype(bool)
    paperless = draw.binomial(1, 0.6, ROWS).astype(bool)
    support_plan = draw.binomial(1, 0.3, ROWS).astype(bool)
    calls = draw.poisson(1.1 + 1.3 * (internet == "fibre") * ~support_plan)
    late = draw.poisson(0.3 + 0.8 * (payment == "invoice"))
    base = 14 + 31 * (internet == "fibre") + 17 * (internet == "dsl") + 9 * support_plan
    monthly = np.maximum(9.0, base * draw.lognormal(0, 0.18, ROWS)).round(2)
    usage = draw.lognormal(3.1 + 0.7 * (internet == "fibre"), 0.9, ROWS).round(1)
    satisfaction = np.clip(draw.normal(3.6 - 0.35 * calls, 0.9), 1, 5).round()
    score = (
        -1.9
        + 1.5 * (contract == "monthly")
        - 0.9 * (contract == "two years")
        + 1.1 * np.exp(-months / 9)
        - 0.012 * np.minimum(months, 72)
        + 0.55 * (internet == "fibre")
        + 0.025 * (monthly - 40)
        + 0.32 * np.maximum(0, calls - 1)
        + 1.8 * ((calls >= 3) & (contract == "monthly"))
        + 0.35 * late * (payment == "invoice")
        - 0.5 * (satisfaction - 3)
        + 2.2 * ((age < 32) & (usage > 50))
        - 1.4 * ((age > 60) & (contract == "monthly") & (usage < 30))
        - 0.35 * family
        + 0.5 * (region == "islands")
        + 1.2 * (payment == "gift card")
        - 0.3 * (device == "router")
        - 0.4 * support_plan
    )
    churn = draw.uniform(size=ROWS) < 1 / (1 + np.exp(-score))
    region = np.where(np.isin(np.arange(ROWS), OVERSEAS), "overseas", region)
    signed = [
        TODAY - timedelta(days=int(30.4 * count + day))
        for count, day in zip(months, draw.randint(0, 28, ROWS), strict=True)
    ]
    no_answer = draw.uniform(size=ROWS) < np.where(churn, 0.5, 0.3)  # who is about to leave answers no survey
    missing = {
        name: draw.uniform(size=ROWS) < share for name, share in (("age", 0.06), ("device", 0.09), ("late", 0.03))
    }
    columns = {
        "signed": [day.isoformat() for day in signed],
        "months": months.tolist(),
        "contract": contract.tolist(),
        "internet": internet.tolist(),
        "region": region.tolist(),
        "payment": payment.tolist(),
        "device": _with_gaps(device, missing["device"]),
        "age": _with_gaps(age.astype(int), missing["age"]),
        "family": family.tolist(),
        "paperless": paperless.tolist(),
        "support_plan": support_plan.tolist(),
        "support_calls": calls.tolist(),
        "late_payments": _with_gaps(late, missing["late"]),
        "monthly_charge": monthly.tolist(),
        "gigabytes": _with_gaps(usage, internet == "none"),
        "satisfaction": _with_gaps(satisfaction.astype(int), no_answer),
        "churn": ["yes" if left else "no" for left in churn],
    }
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _with_gaps(values: np.ndarray, missing: np.ndarray) -> list[object]:
    return [None if gone else value for value, gone in zip(values.tolist(), missing, strict=True)]


def main() -> None:
    """Writes the file."""
    rows = make_rows()
    place = Path(__file__).parent / "churn.csv"
    with place.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: str(v).lower() if isinstance(v, bool) else v for k, v in row.items()})
    left = sum(row["churn"] == "yes" for row in rows)
    print(f"{place}: {len(rows)} customers, {left} of them left")


if __name__ == "__main__":
    main()

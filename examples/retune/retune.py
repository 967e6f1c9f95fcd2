"""Requests that have drifted start a search on newer data, whose champion takes over from the old one as a canary.

A gas meter's model learns from January and is asked in June. Nothing starts such a search by itself: a program that is
yours looks at the drift, as this one does, and decides. The new study is warm-started: it tries first what was best
before. Run it with `python examples/retune/retune.py` (three to four minutes on two cores); `orchestrator down` ends
what answers.
"""

import threading
from pathlib import Path

import numpy as np

from deploy import Client, EndpointHandle, endpoint_handle
from orchestrator import Float, Int, Study

STORAGE = Path("runs-retune")
ENDPOINT = "gas"
TRIALS = 8
ROWS_IN_A_REQUEST = 20
SPACE = {
    "learning_rate": Float(0.02, 0.5, log=True),
    "max_leaf_nodes": Int(4, 64, log=True),
    "min_samples_leaf": Int(5, 50),
}


def readings(mean_celsius: float, seed: int, days: int = 1500) -> list[dict[str, float]]:
    """Returns made-up days of many households: what heating takes, below 18 degrees, and cooking."""
    chance = np.random.default_rng(seed)
    celsius, people = chance.normal(mean_celsius, 4.0, days), chance.integers(1, 6, days)
    gas = 1.5 * np.maximum(0.0, 18.0 - celsius) + 0.8 * people + chance.normal(0.0, 0.5, days)
    columns = {"celsius": celsius, "people": people, "sunday": chance.integers(0, 2, days), "gas": gas}
    return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]


def write(rows: list[dict[str, float]], file: Path) -> Path:
    """Writes a CSV file."""
    lines = [",".join(rows[0]), *(",".join(f"{cell:.3f}" for cell in row.values()) for row in rows)]
    file.write_text("\n".join(lines) + "\n")
    return file


def tune(month: str, rows: list[dict[str, float]], first: dict | None = None) -> Study:
    """Searches on a month's data, and brings what is best to the endpoint: at once, or where it has a model, as a
    canary of a third of the requests."""
    rollout = {"kind": "canary", "steps": [0.33], "each": 60}
    study = Study(
        f"gas-{month}",
        "trainables.sklearn.hist_gradient_boosting",
        SPACE,
        minimize="val_loss",
        scheduler={"kind": "asha", "min": 1, "max": 9, "eta": 3},
        storage=STORAGE,
        data={"source": str(write(rows, STORAGE / f"{month}.csv")), "target": "gas", "test": 0.2, "validation": 0.25},
        serve={"name": ENDPOINT, "port": 8000, "rollout": rollout},
    )
    if first is not None and not study.trials:
        study.enqueue(first)
    return study.run(trials=TRIALS)


class Households:
    """Asks the endpoint about days all the time, as clients do, until it is left."""

    def __init__(self, handle: EndpointHandle, days: list[dict[str, float]]) -> None:
        host, port, _ = handle.status()["place"]
        token = (STORAGE / "endpoints" / ENDPOINT / "token").read_text().strip()
        self._client = Client(f"http://{host}:{port}", token)
        self._asked = [{name: cell for name, cell in day.items() if name != "gas"} for day in days]
        self._gas = np.array([day["gas"] for day in days])
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Households":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._client.close()

    def _ask(self) -> None:
        while not self._is_over.wait(0.05):
            start = np.random.randint(len(self._asked) - ROWS_IN_A_REQUEST)
            self._client.predict(self._asked[start : start + ROWS_IN_A_REQUEST])

    @property
    def error(self) -> float:
        """How far the endpoint's answers are from what was used, on average."""
        said = self._client.predict(self._asked).predictions
        return float(np.abs(np.array(said) - self._gas).mean())


def drifted(handle: EndpointHandle, looks: int = 60) -> list[str]:
    """Looks once a second until the requests have drifted; returns the columns that have, or none."""
    for _ in range(looks):
        found = handle.drift()
        print(f"version {found['version']}, {found['rows']} rows asked; drifted: {', '.join(found['drifted']) or '–'}")
        if found["drifted"]:
            return list(found["drifted"])
        threading.Event().wait(1.0)
    return []


def main() -> None:
    """January's model, June's requests, and June's model."""
    STORAGE.mkdir(exist_ok=True)
    january, june = readings(2.0, seed=1), readings(19.0, seed=6)
    before = tune("january", january)
    handle = endpoint_handle(ENDPOINT)
    with Households(handle, june) as households:
        old = households.error
        columns = drifted(handle)
        if not columns:
            print("June's requests look like January's data; nothing is done.")
            return
        tune("june", june, first=dict(before.best_params))
        while handle.status()["rollout"] is not None:  # the canary's share grows as it is asked
            threading.Event().wait(1.0)
        print(f"\n{', '.join(columns)} had drifted; the error in June was {old:.2f}, and is {households.error:.2f}")
    current = handle.status()["current"]
    print(f"version {current['version']} answers, of the study {current['lineage']['study']}")


if __name__ == "__main__":
    main()

"""Ask and tell: the loop is yours, the study proposes and remembers.

Run it with `python examples/ask_tell.py`.
"""

import math

from orchestrator import Choice, Float, Int, Study


def evaluate(params: dict) -> float:
    """Stands for something that is costly to find out: a well with its bottom at (1, -2), or a staircase above it."""
    if params["shape"] == "stairs":
        return 1.0 + params["stair"]
    return math.hypot(params["x"] - 1, params["y"] + 2)


space = {
    "shape": Choice(["well", "stairs"]),
    "x": Float(-5, 5, when={"shape": "well"}),
    "y": Float(-5, 5, when={"shape": "well"}),
    "stair": Int(0, 9, when={"shape": "stairs"}),
}
study = Study(space=space, minimize="loss", search="auto", seed=1)
study.enqueue({"shape": "well", "x": 0.0, "y": 0.0})  # a guess of your own, tried first

for _ in range(60):
    trial = study.ask()
    try:
        study.tell(trial, evaluate(trial.params))
    except ArithmeticError as error:
        study.tell(trial, error=str(error))

print(f"best of {len(study.trials)}: {study.best_value:.4f} with {study.best_params}")

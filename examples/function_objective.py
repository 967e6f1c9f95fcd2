"""A function as the objective: it reports epoch by epoch, ASHA pauses it, and it goes on from its checkpoint.

Run it with `python examples/function_objective.py`; run it again, and it goes on where it was.
"""

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from orchestrator import Choice, Float, Study

EPOCHS = 27
images, digits = load_digits(return_X_y=True)
train_x, valid_x, train_y, valid_y = train_test_split(images / 16, digits, test_size=0.25, random_state=0)


def objective(trial):
    """Trains a linear model, one pass over the images at a time."""
    model = trial.checkpoint or SGDClassifier(learning_rate="constant", **trial.params, random_state=trial.seed)
    for epoch in range(trial.last_step + 1, EPOCHS + 1):
        model.partial_fit(train_x, train_y, classes=range(10))
        trial.report(step=epoch, accuracy=model.score(valid_x, valid_y), checkpoint=model)


if __name__ == "__main__":
    space = {
        "eta0": Float(1e-4, 1.0, log=True),
        "alpha": Float(1e-6, 1e-2, log=True),
        "loss": Choice(["hinge", "log_loss"]),
    }
    asha = {"kind": "asha", "min": 1, "max": EPOCHS, "eta": 3}
    study = Study("linear-digits", objective, space, maximize="accuracy", scheduler=asha, execution="inline")
    study.run(trials=30)
    epochs = sum(trial.last_step for trial in study.trials)
    print(f"{len(study.trials)} trials in {epochs} epochs instead of {EPOCHS * len(study.trials)}")
    print(f"best accuracy {study.best_value:.4f} with {study.best_params}")

"""Running a study's trials: `inline` in the process at hand, `pooled` and `native` in Ray Tune's slots.

All three are driven by the exchange between `worker` and study. `workshop` is what a worker needs (the user's `code`,
the data, the `checkpoints`), `runs` steps one trial, `handle` is the trial in a function's hands, `tidiness` puts the
process back as it was. Modules are imported by name, so that an inline run never loads Ray.
"""

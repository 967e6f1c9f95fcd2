"""Hypothesis strategy for the specification of any study, and the spaces that it may be widened to."""

from hypothesis import strategies as st

SPACE = {
    "x": {"min": 0.0, "max": 1.0},
    "kind": {"values": ["a", "b"]},
    "y": {"min": 1, "max": 9, "when": {"kind": "b"}},
}
WIDER = (  # one after the other
    SPACE | {"x": {"min": -1.0, "max": 2.0}},
    SPACE
    | {
        "x": {"min": -1.0, "max": 2.0},
        "kind": {"values": ["c", "a", "b"]},
        "new": {"values": [None, 1, 2], "default": None},
        "depth": {"min": 1, "max": 3, "when": {"new": [1, 2]}},
    },
)


def specifications():
    asha = st.fixed_dictionaries(
        {
            "kind": st.just("asha"),
            "max": st.sampled_from([3, 9]),
            "eta": st.sampled_from([2, 3]),
            "mode": st.sampled_from(["pause", "stop"]),
        }
    )
    none = st.fixed_dictionaries({"kind": st.just("none"), "max": st.sampled_from([1, 3])})
    budget = st.fixed_dictionaries({"trials": st.integers(1, 12), "time": st.sampled_from([None, None, 30.0, 300.0])})
    failures = st.fixed_dictionaries(
        {"crashes": st.integers(0, 2), "errors": st.integers(0, 2), "alike": st.sampled_from([1, 3, 100])}
    )
    serve = st.none() | st.fixed_dictionaries(
        {"promote": st.fixed_dictionaries({"margin": st.sampled_from([0.0, 0.1])})}
    )
    return st.fixed_dictionaries(
        {
            "study": st.just("any"),
            "space": st.just(SPACE),
            "objective": st.sampled_from([{"metric": "loss"}, {"metric": "loss", "goal": "maximize"}]),
            "search": st.sampled_from(["random", "sobol", {"engine": "grid", "points": 2}]),
            "scheduler": asha | none,
            "budget": budget,
            "failures": failures,
            "serve": serve,
            "timeout": st.none() | st.just(30.0),
            "seed": st.integers(0, 3),
        }
    )

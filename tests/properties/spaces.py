"""Hypothesis strategies for spaces, conditional ones included."""

from hypothesis import strategies as st

from orchestrator.domain.space import Choice, Float, Int, Space

NAMES = ["lr", "layers", "optimizer", "momentum", "width", "dropout", "warm up", "Größe"]
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.sampled_from(["adam", "sgd", ""]))


@st.composite
def floats(draw, when=None):
    kind = draw(st.sampled_from(["plain", "log", "step"]))
    if kind == "log":
        low = draw(st.floats(1e-12, 1e3))
        return Float(low, low * draw(st.floats(1, 1e9)), log=True, when=when)
    low = draw(st.floats(-1e6, 1e6))
    high = low + draw(st.floats(0, 1e6))
    return Float(low, high, step=draw(st.floats(1e-3, 1e3)) if kind == "step" else None, when=when)


@st.composite
def ints(draw, when=None):
    kind = draw(st.sampled_from(["plain", "log", "step"]))
    low = draw(st.integers(1 if kind == "log" else -1000, 1000))
    high = low + draw(st.integers(0, 10**6))
    return Int(low, high, log=kind == "log", step=draw(st.integers(1, 50)) if kind == "step" else None, when=when)


@st.composite
def choices(draw, when=None):
    values = draw(st.lists(VALUES, min_size=1, max_size=5, unique_by=lambda value: (value, type(value) is bool)))
    return Choice(values, when=when)


@st.composite
def conditions(draw, parameters):
    """A condition on up to two of the parameters that exist already, with values that they can take."""
    parents = draw(st.lists(st.sampled_from(sorted(parameters)), max_size=2, unique=True)) if parameters else []
    when = {}
    for parent in parents:
        rng = draw(st.randoms(use_true_random=False))
        when[parent] = [parameters[parent].sample(rng) for _ in range(draw(st.integers(1, 3)))]
    return when or None


@st.composite
def spaces(draw, min_size=0, max_size=6):
    names = draw(st.lists(st.sampled_from(NAMES), min_size=min_size, max_size=max_size, unique=True))
    parameters = {}
    for name in names:
        kind = draw(st.sampled_from([floats, ints, choices, choices]))
        parameters[name] = draw(kind(when=draw(conditions(parameters))))
    shuffled = draw(st.permutations(list(parameters)))
    return Space({name: parameters[name] for name in shuffled})

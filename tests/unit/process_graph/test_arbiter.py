"""Who gets the CPUs that trials and replicas both want."""

import pytest

from deploy import Replicas
from orchestrator.domain.specification import StudySpecification
from orchestrator.process_graph.arbiter import fitting_workers, reserved_replicas

HOSTS = {"a": {"CPU": 4.0}, "b": {"CPU": 4.0, "GPU": 1.0}, "c": {}}


def study(serve=None, **sections):
    given = {"study": "s", "space": {"x": {"min": 0, "max": 1}}, "objective": {"metric": "m"}, "serve": serve}
    return StudySpecification.from_dict(given | sections)


ELASTIC = {"replicas": {"min": 1, "max": 4}}


@pytest.mark.parametrize(
    ("given", "asked", "expected"),
    [
        (study(), 0, 8),
        (study({"replicas": 2}), 0, 6),
        (study({"replicas": 2}), 9, 6),
        (study(ELASTIC), 0, 7),
        (study(ELASTIC), 1, 7),
        (study(ELASTIC), 3, 5),
        (study(ELASTIC), 9, 4),
        (study(ELASTIC | {"cpu": 2}), 4, 1),
        (study(ELASTIC | {"cpu": 2}, tuning={"floor": 0}), 4, 0),
        (study(ELASTIC | {"cpu": 2}, tuning={"floor": 3}), 4, 3),
        (study(ELASTIC | {"priority": "tuning"}), 4, 7),
        (study(ELASTIC, resources={"cpu": 2}), 2, 3),
        (study(ELASTIC, resources={"concurrent": 2}), 4, 2),
        (study(ELASTIC, resources={"gpu": 0.5}), 2, 2),
    ],
)
def test_workers_fit_beside_the_replicas(given, asked, expected):
    assert fitting_workers(given, HOSTS, Replicas(asked)).total == expected


def test_without_load_one_worker_runs_even_where_there_is_no_room():
    assert fitting_workers(study(ELASTIC, tuning={"floor": 0}), {"a": {"CPU": 1.0}}).total == 1


def test_room_is_kept_for_the_least_and_for_no_more_than_the_most():
    assert [reserved_replicas(study(ELASTIC).serve, asked) for asked in (0, 1, 3, 7)] == [1, 1, 3, 4]
    assert reserved_replicas(None, 3) == 0


def places(serve, asked, there=(), **sections):
    return fitting_workers(study(ELASTIC | serve, **sections), HOSTS, Replicas(asked, there)).hosts


def test_a_large_replica_gets_one_host_and_not_room_on_two():
    assert places({"cpu": 3, "replicas": {"min": 1, "max": 2}}, 2) == {"a": 1, "b": 1, "c": 0}


def test_a_waiting_replica_goes_where_it_costs_the_fewest_workers():
    """One that runs on `a` leaves room there that is too small for a worker of two CPUs."""
    assert places({}, 2, ("a",), resources={"cpu": 2}) == {"a": 1, "b": 2, "c": 0}


def test_replicas_that_run_keep_their_places():
    assert places({}, 3, ("b", "b")) == {"a": 4, "b": 1, "c": 0}
    assert places({}, 3, ("b", "b", "b")) == {"a": 4, "b": 1, "c": 0}
    assert places({}, 2, ("gone", "b")) == {"a": 4, "b": 2, "c": 0}


def test_the_least_of_replicas_has_a_place_on_one_host_too():
    assert places({"cpu": 3}, 1) == {"a": 1, "b": 4, "c": 0}


def test_below_the_floor_and_where_nothing_is_served_any_host_is_as_good():
    assert fitting_workers(study(), HOSTS).hosts is None
    assert places({"cpu": 4}, 2, tuning={"floor": 3}) is None


def test_a_replica_with_a_gpu_takes_it_from_workers_that_have_one():
    assert places({"gpu": 0.5}, 2, resources={"gpu": 0.25}, tuning={"floor": 0}) == {"a": 0, "b": 0, "c": 0}
    assert fitting_workers(study(ELASTIC | {"gpu": 0.5}, resources={"gpu": 0.25}), HOSTS, Replicas(1)).total == 2


@pytest.mark.parametrize(("asked", "expected"), [(0, 8), (1, 6), (2, 4), (4, 0)])
def test_beside_shared_replicas_workers_have_what_those_leave(asked, expected):
    given = study({"share": "other"}, tuning={"floor": 0})
    assert fitting_workers(given, HOSTS, Replicas(asked, cpus=2.0)).total == max(1, expected)
    assert reserved_replicas(given.serve, asked) == asked
    assert given.serve.reserved_cpus == 1

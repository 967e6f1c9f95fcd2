"""Who gets the CPUs that trials and replicas both want."""

import pytest

from orchestrator.domain.specification import StudySpecification
from orchestrator.process_graph.arbiter import fitting_workers, reserved_replicas

HOSTS = [{"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}, {}]


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
    assert fitting_workers(given, HOSTS, asked) == expected


def test_without_load_one_worker_runs_even_where_there_is_no_room():
    assert fitting_workers(study(ELASTIC, tuning={"floor": 0}), [{"CPU": 1.0}], 0) == 1


def test_room_is_kept_for_the_least_and_for_no_more_than_the_most():
    assert [reserved_replicas(study(ELASTIC).serve, asked) for asked in (0, 1, 3, 7)] == [1, 1, 3, 4]
    assert reserved_replicas(None, 3) == 0

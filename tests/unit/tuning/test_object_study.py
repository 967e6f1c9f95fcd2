"""A whole study in what stands for an object store: the same code paths as on S3, without a server."""

import time

import pytest

from orchestrator.api.driving import Silence, drive, ended_outcome, set_aside
from orchestrator.cli.verifying import examine
from orchestrator.domain.exchange import Export
from orchestrator.domain.specification import Budget, StudySpecification
from orchestrator.journal import Storage, cache_directory
from orchestrator.study import Layout, StudyKeeper, read_study, studies_on
from orchestrator.study.laws import referred
from orchestrator.tuning.code import Code
from orchestrator.tuning.sweeping import leftovers, sweep
from orchestrator.tuning.workshop import Workshop
from trainables.testing import Quadratic

STUDY = {
    "study": "bowl",
    "space": {"x": {"min": -2.0, "max": 2.0}},
    "objective": {"metric": "loss"},
    "search": "random",
    "scheduler": {"kind": "asha", "min": 1, "max": 9, "eta": 3},
    "budget": {"trials": 8},
    "execution": "inline",
}


@pytest.fixture
def given(object_store):
    return StudySpecification.from_dict(STUDY | {"storage": object_store})


@pytest.fixture
def ended(given):
    drive(given, Code.of(Quadratic), Silence())
    return given


def test_it_runs_to_its_end_and_keeps_its_laws(ended):
    assert examine(ended.storage, "bowl")[0] == []
    assert studies_on(ended.storage) == ["bowl"]
    outcome = ended_outcome(ended)
    assert outcome is not None
    assert outcome.status["trials"] == 8


def test_it_is_the_study_that_a_disk_holds(ended, tmp_path):
    drive(ended.with_changes(storage=str(tmp_path / "disk")), Code.of(Quadratic), Silence())
    here, there = (read_study(place, "bowl").state for place in (tmp_path / "disk", ended.storage))
    assert [trial.reports for trial in here.trials] == [trial.reports for trial in there.trials]
    assert [trial.state for trial in here.trials] == [trial.state for trial in there.trials]


def test_it_goes_on_from_its_checkpoints_within_a_larger_budget(ended):
    keeper = StudyKeeper.open(ended, time.time, storage=ended.storage)
    keeper.extend(trials=12, seconds=None)
    keeper.close()
    drive(ended.with_changes(budget=Budget(12, None)), Code.of(Quadratic), Silence())
    assert len(read_study(ended.storage, "bowl").state.trials) == 12
    assert examine(ended.storage, "bowl")[0] == []


def test_what_nothing_refers_to_is_found_and_swept(ended):
    layout = Layout(ended.storage, "bowl")
    layout.checkpoints.write("00003/00001-torn/state.json", b"half")
    layout.bundles.write("old/model.onnx", b"half")
    checkpoints, bundles = referred(read_study(ended.storage, "bowl").state)
    uris = [ref.uri for ref in checkpoints]
    found = [layout.bundles.child("old").uri, layout.checkpoints.child("00003/00001-torn").uri]
    assert leftovers(layout, uris, bundles) == found
    assert sweep(layout, uris, bundles) == found
    assert examine(ended.storage, "bowl")[0] == []


def test_begun_anew_it_is_set_aside(ended):
    kept = set_aside(ended)
    assert kept is not None
    assert kept.startswith("mock:///runs/.old/bowl-")
    assert studies_on(ended.storage) == []
    assert Storage.of(kept).exists("bowl/journal")


class Exporting(Quadratic):
    """Exports something."""

    def export(self, directory, lineage):
        directory.mkdir(parents=True)
        (directory / "model.onnx").write_text(str(lineage.trial))


def test_a_bundle_is_written_on_this_host_and_uploaded(ended):
    checkpoint = read_study(ended.storage, "bowl").state.trials[0].checkpoint
    assert checkpoint is not None
    workshop = Workshop(ended, Code.of(Exporting), None, ended.storage)
    results = [workshop.export(Export("trial0-step9", 0, {"x": 0.0}, 0, checkpoint, 1.0)) for _ in range(2)]
    bundles = Layout(ended.storage, "bowl").bundles
    names = [bundles.name_of(result.uri) for result in results]
    assert names[0] != names[1]
    for name in names:
        assert name is not None
        assert bundles.published(name) is not None
        assert bundles.read(f"{name}/model.onnx") == b"0"
    assert not list((cache_directory() / "scratch").glob("bundle.*"))

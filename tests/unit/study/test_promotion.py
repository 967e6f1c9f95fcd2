"""Which checkpoint becomes a challenger, and when."""

import pytest

from orchestrator.domain.events import ExportFailed, Exporting
from orchestrator.domain.exchange import ExportResult
from orchestrator.domain.trials import Decision
from orchestrator.study import BundleState, Phase
from orchestrator.study.promotion import next_export

SERVE = {"name": "bowl", "promote": {"margin": 0.1}}
PLAIN = {"kind": "none", "max": 1}


@pytest.fixture
def served(make_lab):
    """Trials of one step, of which the endpoint gets the best."""
    return make_lab(scheduler=PLAIN, serve=SERVE, budget={"trials": 20})


def finish(lab, *losses, worker="w"):
    """Runs a trial for each loss, by a worker that has no room for anything else afterwards."""
    numbers = []
    for loss in losses:
        run = next(run for run in lab.send(worker, room=1).runs)
        lab.say(run.trial, loss, worker=worker)
        numbers.append(run.trial)
    return numbers


def finish_at_once(lab, *losses):
    for number, loss in zip(lab.ask(room=len(losses)), losses, strict=True):
        lab.say(number, loss)


def bundle_of(lab):
    """What a worker is told to export now, if anything."""
    orders = lab.send("exporter").exports
    return orders[0] if orders else None


def make(lab, order, error=""):
    result = ExportResult(order.bundle, "" if error else f"bundles/{order.bundle}", error)
    lab.send("exporter", exports=[result], room=0)


def promote(lab, order):
    make(lab, order)
    lab.write(lab.study.promoted(order.bundle, "1", lab.now))


def test_nothing_is_exported_where_nothing_is_served(make_lab):
    lab = make_lab(scheduler=PLAIN)
    finish(lab, 0.1)
    assert bundle_of(lab) is None


def test_the_first_champion_must_beat_the_trivial_baseline(served):
    served.write(served.study.measured(served.now, baseline=0.5, data_sha256="d"))
    finish(served, 0.5)
    answer = served.send("exporter")
    assert not answer.exports
    served.say(answer.runs[0].trial, 0.49, worker="exporter")
    order = bundle_of(served)
    assert order.trial == 1
    assert order.checkpoint.step == 1
    assert order.value == 0.49


def test_a_challenger_must_beat_the_champion_by_more_than_the_margin(served):
    finish(served, 0.5)
    promote(served, bundle_of(served))
    finish(served, 0.4)
    assert served.study.challenger() is None
    assert served.send("exporter", room=0).exports == ()
    answer = served.send("exporter")
    assert not answer.exports, "0.4 beats 0.5 by the margin, not by more"
    served.say(answer.runs[0].trial, 0.39, worker="exporter")
    assert bundle_of(served).value == 0.39


def test_there_is_one_challenger_at_a_time(served):
    finish(served, 0.5)
    first = bundle_of(served)
    finish(served, 0.1)
    assert served.send("other").exports == (), "the first one is being made"
    make(served, first)
    assert served.study.challenger()["bundle"] == first.bundle
    assert served.send("third").exports == (), "the first one awaits its promotion"
    served.write(served.study.promoted(first.bundle, "1", served.now))
    assert served.study.challenger() is None
    assert bundle_of(served).value == 0.1


def test_after_a_rejected_one_comes_the_next_best(served):
    finish(served, 0.2)
    first = bundle_of(served)
    finish(served, 0.3, 0.25)
    make(served, first)
    served.write(served.study.rejected(first.bundle, "its answers differ", served.now))
    second = bundle_of(served)
    assert second.value == 0.25
    make(served, second, error="it cannot be exported")
    assert served.state.bundles[second.bundle].reason == "it cannot be exported"
    assert bundle_of(served).value == 0.3


def test_a_rejected_one_is_not_tried_again_but_the_same_trial_later_is(make_lab):
    lab = make_lab(
        scheduler={"kind": "asha", "max": 3, "eta": 3}, serve=SERVE, budget={"trials": 1}, defaults={"x": 0.5}
    )
    [trial] = lab.ask()
    assert lab.say(trial, 0.5) is Decision.CONTINUE
    first = bundle_of(lab)
    make(lab, first)
    lab.write(lab.study.rejected(first.bundle, "no", lab.now))
    assert bundle_of(lab) is None
    lab.say(trial, 0.4, 0.3)
    assert bundle_of(lab).bundle == "trial00000-step00003"


def test_an_export_that_was_lost_is_tried_again(served):
    finish(served, 0.5)
    first = bundle_of(served)
    served.write(served.study.worker_lost("exporter", served.now, cause="killed", blame=True))
    again = served.send("other").exports[0]
    assert again == first


def test_an_export_that_kills_one_worker_after_another_is_given_up(make_lab):
    lab = make_lab(scheduler=PLAIN, serve=SERVE, failures={"crashes": 2}, budget={"trials": 1})
    finish(lab, 0.5)
    for worker in ("a", "b", "c"):
        assert lab.send(worker).exports
        lab.write(lab.study.worker_lost(worker, lab.now, cause="killed", blame=True))
    assert lab.send("d").exports == ()
    assert [event.lost for event in lab.events(ExportFailed)] == [True, True, False]
    assert lab.state.phase is Phase.ENDED


def test_a_lost_host_does_not_count_against_an_export(make_lab):
    lab = make_lab(scheduler=PLAIN, serve=SERVE, failures={"crashes": 0})
    finish(lab, 0.5)
    assert lab.send("a").exports
    lab.write(lab.study.worker_lost("a", lab.now, cause="its host is gone", blame=False))
    assert lab.send("b").exports


@pytest.mark.parametrize("restarts", [False, True])
def test_an_order_for_a_bundle_that_got_lost_is_given_again(served, restarts):
    finish(served, 0.5)
    order = bundle_of(served)
    if restarts:
        served.restart()
    assert served.send("other").exports == ()
    assert served.send("exporter", room=0).exports == (order,), "it was told before, and does not mention it"
    promote(served, order)
    assert served.state.champion.bundle == order.bundle
    assert len(served.events(Exporting)) == 1


def test_a_bundle_that_is_still_being_made_is_not_ordered_again(served):
    finish(served, 0.5)
    order = bundle_of(served)
    assert served.send("exporter", making=(order.bundle,)).exports == ()
    assert served.state.open_bundle().state is BundleState.EXPORTING


def test_a_promotion_that_is_told_twice_counts_once(served):
    finish(served, 0.5)
    order = bundle_of(served)
    promote(served, order)
    served.write(served.study.promoted(order.bundle, "1", served.now))
    served.write(served.study.rejected(order.bundle, "no", served.now))
    served.write(served.study.promoted("nobody knows it", "1", served.now))
    assert served.state.promotions == 1
    assert served.state.bundles[order.bundle].state is BundleState.PROMOTED


def test_a_challenger_that_waits_survives_a_restart(served):
    finish(served, 0.5)
    order = bundle_of(served)
    make(served, order)
    before = served.study.challenger()
    served.restart()
    assert served.study.challenger() == before


def test_the_reference_is_exported_only_at_the_end_and_never_served(make_lab):
    lab = make_lab(scheduler=PLAIN, serve=SERVE, budget={"trials": 2}, defaults={"x": 0.5})
    finish(lab, 0.9)
    promote(lab, bundle_of(lab))
    assert bundle_of(lab) is None, "a reference is no challenger"
    lab.say(1, 0.2, worker="exporter")
    best = bundle_of(lab)
    assert (best.trial, best.bundle) == (1, "trial00001-step00001")
    promote(lab, best)
    reference = bundle_of(lab)
    assert (reference.trial, reference.bundle) == (0, "trial00000-step00001-reference")
    assert lab.state.phase is Phase.ENDING
    make(lab, reference)
    assert lab.study.challenger() is None
    assert lab.send("exporter").release
    assert lab.state.phase is Phase.ENDED
    assert lab.state.bundles[reference.bundle].state is BundleState.REJECTED
    assert lab.state.bundles[reference.bundle].uri


def test_the_study_does_not_end_before_its_last_challenger_is_judged(make_lab):
    lab = make_lab(scheduler=PLAIN, serve=SERVE, budget={"trials": 1})
    finish(lab, 0.2)
    order = bundle_of(lab)
    assert not lab.send("w").release
    make(lab, order)
    lab.tick()
    assert lab.state.phase is Phase.ENDING
    lab.write(lab.study.rejected(order.bundle, "no", lab.now))
    assert lab.state.phase is Phase.ENDED


def test_a_trial_without_checkpoint_is_no_candidate(served):
    [trial] = served.ask()
    served.say(trial, 0.1, saves=False)
    finish(served, 0.4)
    assert bundle_of(served).value == 0.4


def test_after_a_rollback_the_same_challenger_is_not_put_up_again(served):
    finish(served, 0.9)
    first = bundle_of(served)
    promote(served, first)
    finish(served, 0.5)
    second = bundle_of(served)
    make(served, second)
    served.write(served.study.promoted(second.bundle, "2", served.now))
    served.write(served.study.rolled_back("1", served.now))
    assert served.state.champion.bundle == first.bundle
    finish(served, 0.85)
    assert next_export(served.state) is None, "it does not beat the earlier champion by the margin"
    finish(served, 0.6)
    assert bundle_of(served).trial == 3
    assert served.study.rolled_back("1", served.now) == []


def test_a_study_without_an_endpoint_ends_and_does_not_export_one_after_the_other(served):
    finish_at_once(served, 0.9, 0.5, 0.7)
    make(served, bundle_of(served))
    served.write(served.study.stop(served.now))
    assert served.state.phase is Phase.ENDING, "its challenger waits for an endpoint"
    served.write(served.study.serves_no_more("there is no endpoint", served.now))
    assert served.state.phase is Phase.ENDED
    assert [(record.trial, record.state) for record in served.state.bundles.values()] == [(1, BundleState.REJECTED)]


def test_a_study_that_goes_on_looks_for_an_endpoint_again(served):
    finish_at_once(served, 0.9, 0.5)
    served.write(served.study.stop(served.now))
    served.write(served.study.serves_no_more("there is no endpoint", served.now))
    assert served.state.phase is Phase.ENDED
    served.write(served.study.reopen(served.now))
    assert bundle_of(served).trial == 1

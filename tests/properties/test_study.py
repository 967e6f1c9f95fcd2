"""The study under anything that can happen to it: workers that fail, vanish, come back, and actors that die."""

import json
from dataclasses import fields, replace
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from simulated_worker import SimulatedWorker
from specifications import SPACE, WIDER, specifications

from orchestrator.domain.events import Suggested, from_record, to_record
from orchestrator.domain.exchange import Answer, Message
from orchestrator.domain.space import Space
from orchestrator.domain.specification import StudySpecification
from orchestrator.domain.trials import Decision, TrialState
from orchestrator.study import BundleState, Phase, new_study, replay, status
from orchestrator.study.laws import violations
from orchestrator.study.promotion import next_export
from orchestrator.study.snapshot import Snapshot, encode
from orchestrator.study.trial import Trial

MOST_TURNS = 3000  # in which a study must come to its end once everybody behaves
WELL = ("steps", "steps", "steps", "steps", "steps", "steps", "steps", "part", "nothing", "done")
BADLY = ("steps", "part", "done", "error", "error", "other error", "nan", "no metric")
FATES = ("heard", "heard", "heard", "heard", "lost", "actor dies after writing", "actor dies before writing")


def loss_of(trial, step):
    return (trial * 7919 % 101) / 101 + 1 / step - (trial * step % 5) / 10


def wire(value):
    """What arrives at the other end."""
    return type(value).from_dict(json.loads(json.dumps(value.to_dict(), allow_nan=False)))


def everything(state):
    """All of a study's state that decides anything, for comparison."""
    return {
        "status": status(state),
        "trials": [{f.name: getattr(trial, f.name) for f in fields(Trial)} for trial in state.trials],
        "held": {worker: trials for worker, trials in state.held.items() if trials},
        "queues": (state.requeued, state.waiting, state.ranking),
        "bundles": state.bundles,
        "losses": (state.lost_exports, state.failures, state.successes),
        "best": state.best and state.best.number,
        "open": state.open_bundle(),
        "next export": next_export(state) if state.specification.serve else None,
        "promotable": state.scheduler.promotable(),
        "suggestion": None if state.suggester.is_exhausted() else state.suggester.suggest(len(state.trials)),
        "spaces": (state.spaces, state.specification, state.extended_to),
    }


class AnyStudy(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.journal = []  # lines of JSON
        self.snapshot = None  # a state, and how many lines it stands for
        self.workers = {}
        self.vanished = {}  # hosts that went silent, with what stood on them
        self.born = 0
        self.epoch = 0

    # --- the world ---------------------------------------------------------------------------------------------

    @initialize(given=specifications(), has_defaults=st.booleans(), side_by_side=st.sampled_from([1, 2]))
    def begin(self, given, has_defaults, side_by_side):
        self.specification = StudySpecification.from_dict(given)
        self.side_by_side = side_by_side
        self.study = new_study(self.specification)
        defaults = {"x": 0.5, "kind": "b"} if has_defaults else None
        self.write(self.study.create(self.now, defaults=defaults, code_sha256="c", versions={}))
        self.open()
        self.add_worker("h0", 1)
        self.add_worker("h1", 3)

    def open(self):
        self.epoch += 1
        self.study.workers = self.side_by_side
        self.write(self.study.open(self.now, epoch=self.epoch, writer="w"))

    def write(self, events):
        self.journal += [json.dumps(to_record(event), allow_nan=False) for event in events]

    def replayed(self):
        study = new_study(self.specification)
        replay(study, [[json.loads(line)] for line in self.journal])
        return study

    def resumed(self):
        """The study out of its snapshot and the events behind it."""
        state, events = self.snapshot
        known = Snapshot.decode(state)
        study = new_study(known.specification(self.specification))
        known.restore(study.state)
        replay(study, [[json.loads(line)] for line in self.journal[events:]])
        return study

    def actor_restarts(self):
        self.study = self.replayed() if self.snapshot is None else self.resumed()
        self.open()
        for worker in [worker for host in self.vanished.values() for worker in host]:
            self.write(self.study.worker_lost(worker, self.now, cause="its host is gone", blame=False))
        self.vanished.clear()

    def end(self, worker):
        del self.workers[worker.name]

    def deliver(self, worker, fate="heard"):
        message = wire(worker.message())
        was_fenced = worker.name in self.study.fenced
        events, answer = self.study.exchange(message, self.now)
        answer = wire(answer)
        assert answer.fenced == was_fenced
        if was_fenced:
            assert answer == Answer(self.epoch, fenced=True)
            assert not events
            self.end(worker)
            return answer
        if fate == "actor dies before writing":
            self.actor_restarts()
            return None
        self.write(events)
        if fate == "actor dies after writing":
            self.actor_restarts()
            return None
        if fate == "lost":
            return None
        worker.hear(answer)
        return answer

    # --- what happens ------------------------------------------------------------------------------------------

    @rule(host=st.sampled_from(["h0", "h1", "h2"]), room=st.integers(1, 3))
    def worker_comes(self, host, room):
        if len(self.workers) < 4:
            self.add_worker(host, room)

    def add_worker(self, host, room):
        self.born += 1
        host = f"instead{self.born}" if host in self.vanished else host
        self.workers[f"worker{self.born}"] = SimulatedWorker(f"worker{self.born}", host, room)
        self.study.beat(host, self.now)

    def pick(self, data):
        if not self.workers:
            self.add_worker("h8", 2)
        return self.workers[data.draw(st.sampled_from(sorted(self.workers)))]

    @rule(data=st.data(), fate=st.sampled_from(FATES))
    def worker_speaks(self, data, fate):
        self.deliver(self.pick(data), fate)

    @rule(data=st.data(), count=st.integers(2, 8))
    def worker_works_well(self, data, count):
        self.work(self.pick(data), data, st.sampled_from(WELL), st.just(True), count)

    @rule(data=st.data(), count=st.integers(2, 8), saves=st.booleans())
    def worker_works_on(self, data, count, saves):
        self.work(self.pick(data), data, st.sampled_from(WELL), st.just(saves), count)

    @rule(data=st.data())
    def worker_works_badly(self, data):
        self.work(self.pick(data), data, st.sampled_from(BADLY), st.booleans(), 2)

    def work(self, worker, data, outcomes, saves, count):
        for _ in range(count):
            for trial in [trial for trial, held in worker.held.items() if held.progress is None]:
                worker.work(trial, data.draw(outcomes), data.draw(saves), loss_of)
            self.deliver(worker)
            if worker.name not in self.workers:
                return

    @rule(data=st.data(), blame=st.booleans(), cause=st.sampled_from(["exit code -9", "out of memory"]))
    def worker_dies(self, data, blame, cause):
        worker = self.pick(data)
        self.end(worker)
        self.write(self.study.worker_lost(worker.name, self.now, cause=cause, blame=blame))

    @rule(data=st.data())
    def worker_is_thought_dead_and_comes_back(self, data):
        worker = self.pick(data)
        self.write(self.study.worker_lost(worker.name, self.now, cause="a rumour", blame=False))

    @rule(data=st.data())
    def worker_leaves(self, data):
        worker = self.pick(data)
        said = worker.message()
        message = Message(said.worker, said.epoch, said.host, said.progress, said.exports, said.room, leaving=True)
        events, answer = self.study.exchange(wire(message), self.now)
        self.write(events)
        assert not answer.runs
        assert not answer.exports
        assert not self.study.state.held.get(worker.name)
        self.end(worker)

    @rule(data=st.data())
    def worker_returns_a_trial_and_goes_on_with_others(self, data):
        worker = self.pick(data)
        if not worker.held:
            return
        trial = data.draw(st.sampled_from(sorted(worker.held)))
        events, answer = self.study.exchange(wire(replace(worker.message(), returned=(trial,), room=0)), self.now)
        self.write(events)
        if answer.fenced:
            self.end(worker)
            return
        assert trial not in self.study.state.held.get(worker.name, ())
        worker.hear(wire(answer))
        worker.held.pop(trial, None)

    @rule(data=st.data())
    def host_vanishes(self, data):
        host = self.pick(data).host
        self.vanished[host] = [worker for worker in self.workers if self.workers[worker].host == host]
        for worker in self.vanished[host]:
            self.end(self.workers[worker])

    @rule()
    def runner_begins_anew(self):
        self.write(self.study.all_workers_lost(self.now, "a new runner began"))

    @rule()
    def actor_comes_back(self):
        self.actor_restarts()

    @rule()
    def writer_compacts(self):
        self.snapshot = encode(self.study.state, len(self.journal)), len(self.journal)

    @rule(seconds=st.sampled_from([0.1, 0.1, 1.0, 1.0, 5.0, 16.0, 40.0]))
    def time_passes(self, seconds):
        self.now += seconds
        for host in {worker.host for worker in self.workers.values()}:
            self.study.beat(host, self.now)
        self.write(self.study.tick(self.now))

    @rule(is_good=st.booleans())
    def endpoint_answers(self, is_good):
        challenger = self.study.challenger()
        if challenger is not None and is_good:
            self.write(self.study.promoted(challenger["bundle"], "1", self.now))
            self.write(self.study.promoted(challenger["bundle"], "1", self.now))
        elif challenger is not None:
            self.write(self.study.rejected(challenger["bundle"], "no better", self.now))

    @rule(x=st.sampled_from([0.0, 0.25]))
    def user_enqueues(self, x):
        if len(self.study.state.trials) < 20:
            self.write(self.study.enqueue({"x": x}, self.now))

    @rule(wish=st.sampled_from(["stop", "go on", *[""] * 8]))
    def user_stops_or_goes_on(self, wish):
        if wish == "stop":
            self.write(self.study.stop(self.now))
        elif wish == "go on":
            self.write(self.study.reopen(self.now))

    @rule(more=st.sampled_from([None, 1, 3]), wider=st.booleans())
    def user_extends(self, more, wider):
        state = self.study.state
        trials = None if more is None else min(20, state.specification.budget.trials + more)
        spaces = [Space.from_dict(space) for space in (SPACE, *WIDER)]
        at = spaces.index(state.specification.space)
        space = spaces[at + 1] if wider and at + 1 < len(spaces) else None
        if space is None and (trials is None or trials == state.specification.budget.trials):
            return
        before = [dict(trial.params) for trial in state.trials]
        self.write(self.study.extend(self.now, trials=trials, space=space))
        for params, trial in zip(before, state.trials, strict=True):
            assert params.items() <= trial.params.items(), "what a trial had it still has"

    # --- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def a_replay_gives_the_same_study(self):
        assert everything(self.replayed().state) == everything(self.study.state)

    @invariant()
    def a_snapshot_and_the_events_behind_it_give_the_same_study(self):
        if self.snapshot is not None:
            resumed = self.resumed().state
            assert everything(resumed) == everything(self.study.state)
            assert encode(resumed, 1) == encode(self.study.state, 1)

    @invariant()
    def the_laws_hold(self):
        state = self.study.state
        events = [from_record(json.loads(line)) for line in self.journal]
        assert violations(state, events) == []
        suggested = [event.trial for event in events if isinstance(event, Suggested)]
        assert suggested == list(range(len(state.trials)))
        assert sum(t.origin != "user" for t in state.trials) <= state.specification.budget.trials
        assert state.specification.budget.trials >= self.specification.budget.trials, "no older budget takes it back"
        for trial in state.trials:
            state.specification.space.validate(trial.params)
        for trial in state.trials:
            steps = [step for step, _ in trial.reports]
            assert all(earlier < later for earlier, later in pairwise(steps))

    @invariant()
    def a_running_trial_is_held_by_its_worker_alone(self):
        state = self.study.state
        holders = {}
        for worker, trials in state.held.items():
            for trial in trials:
                assert holders.setdefault(trial, worker) == worker
        running = {trial.number: trial.worker for trial in state.trials if trial.state is TrialState.RUNNING}
        assert holders == running
        assert not set(running.values()) & self.study.fenced

    @invariant()
    def counts_are_counts(self):
        state = self.study.state
        assert state.counts == {s: sum(trial.state is s for trial in state.trials) for s in TrialState}
        able = {TrialState.WAITING, TrialState.PAUSED, TrialState.FAILED}
        assert all(state.trials[number].state in able for number in state.requeued)
        waiting = {trial.number for trial in state.trials if trial.state is TrialState.WAITING}
        assert waiting == {n for n in state.requeued + state.waiting if state.trials[n].state is TrialState.WAITING}
        failed = {trial.number for trial in state.trials if trial.state is TrialState.FAILED}
        assert failed <= set(state.requeued), "a failed trial tries again; else it is abandoned"

    @invariant()
    def the_best_is_the_best(self):
        state, objective = self.study.state, self.specification.objective
        values = [trial.value for trial in state.trials if trial.value is not None]
        best = (max if objective.maximize else min)(values, default=None)
        assert (state.best.value if state.best else None) == best
        assert state.successes == len(values)

    @invariant()
    def one_bundle_is_open_at_most(self):
        state = self.study.state
        open_states = (BundleState.EXPORTING, BundleState.EXPORTED)
        found = [record for record in state.bundles.values() if record.state in open_states]
        assert found == ([state.open_bundle()] if state.open_bundle() else [])

    @invariant()
    def nothing_runs_after_the_end(self):
        if self.study.state.phase is Phase.ENDED:
            assert self.study.state.counts[TrialState.RUNNING] == 0
            assert self.study.state.open_bundle() is None

    # --- the end that always comes -----------------------------------------------------------------------------

    def teardown(self):
        if not self.journal:
            return
        for worker in [worker for host in self.vanished.values() for worker in host]:
            self.write(self.study.worker_lost(worker, self.now, cause="its host is gone", blame=False))
        turns = 0
        while self.study.state.phase is not Phase.ENDED:
            turns += 1
            assert turns < MOST_TURNS, f"the study never ends: {status(self.study.state)}"
            self.everybody_behaves()
        for check in (self.a_replay_gives_the_same_study, self.counts_are_counts, self.nothing_runs_after_the_end):
            check()
        last = SimulatedWorker("late", "h9", 1, self.epoch)
        for worker in [*self.workers.values(), last]:
            answer = self.study.exchange(worker.message(), self.now)[1]
            assert answer.fenced or not any(v.decision is Decision.CONTINUE for v in answer.verdicts.values())
            assert answer.fenced or answer.release

    def everybody_behaves(self):
        self.now += 0.2
        if not self.workers:
            self.add_worker("h8", 1)
        for worker in list(self.workers.values()):
            for trial in [trial for trial, held in worker.held.items() if held.progress is None]:
                worker.work(trial, "steps", True, loss_of)
            self.study.beat(worker.host, self.now)
            answer = self.deliver(worker)
            if answer is not None and answer.release:
                self.workers.pop(worker.name, None)
        self.write(self.study.tick(self.now))
        challenger = self.study.challenger()
        if challenger is not None:
            self.write(self.study.promoted(challenger["bundle"], "2", self.now))


TestAnyStudy = AnyStudy.TestCase
TestAnyStudy.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

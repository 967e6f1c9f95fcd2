"""A process is known again beyond doubt, though pids are used twice and clocks are set."""

import os
import subprocess
import sys
from dataclasses import replace

import psutil

from orchestrator.process_graph.session_file import ProcessMark, end_processes


def test_a_process_is_found_by_its_mark_until_it_ends():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = ProcessMark.of(process.pid)
    found = mark.find()
    assert found is not None
    assert found.pid == process.pid
    end_processes([mark])
    process.wait()
    assert mark.find() is None
    process.stdin.close()


def test_another_process_of_the_pid_or_of_an_earlier_boot_is_not_it():
    mark = ProcessMark.of(os.getpid())
    assert replace(mark, started=mark.started - 60).find() is None
    assert replace(mark, boot="an earlier one").find() is None


def test_a_wall_clock_that_is_set_hides_no_process(monkeypatch):
    mark = ProcessMark.of(os.getpid())
    usual = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: usual(process) + 3600)
    assert mark.find() is not None

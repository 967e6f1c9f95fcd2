"""The journals, which the tests of their appends and of their snapshots share."""

import pytest
from journal_places import PLACES

from orchestrator.journal import MemoryJournal


@pytest.fixture(params=PLACES)
def place(request, tmp_path):
    return PLACES[request.param](tmp_path)


@pytest.fixture(params=["memory", *PLACES])
def journal(request, tmp_path):
    opened = MemoryJournal() if request.param == "memory" else PLACES[request.param](tmp_path).open()
    yield opened
    opened.close()


@pytest.fixture
def stored(place):
    opened = place.open()
    yield opened
    opened.close()

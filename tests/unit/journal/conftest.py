import pytest
from failing_store import Place


@pytest.fixture
def place(tmp_path):
    """A journal's folder in an object store that fails when it is told to."""
    return Place(tmp_path)

"""Fixtures of the tests of `tod offload`."""

import pytest

from tests.support.offloading import prepare


@pytest.fixture
def place(tmp_path):
    """`models/samples.tod` and `data.npz`."""
    prepare(tmp_path)
    return tmp_path


@pytest.fixture
def peers():
    """Processes that are ended with the test."""
    started = []
    yield started
    for one in started:
        if not one.ended:
            one.kill()

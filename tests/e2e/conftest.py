# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests. They run against $POSTERN_BUILD/posternd (default build/release)."""
import pathlib

import pytest

pytest.register_assert_rewrite("harness")

from harness.answers import granting  # noqa: E402
from harness.place import Place  # noqa: E402
from harness.postern import program  # noqa: E402


def pytest_sessionstart(session):
    if not session.config.option.collectonly and not pathlib.Path(program("posternd")).exists():
        raise pytest.UsageError(f"{program('posternd')} does not exist: build it, or set POSTERN_BUILD")


@pytest.fixture
def place():
    """A place for this test alone."""
    with Place() as place_of_test:
        yield place_of_test


@pytest.fixture(scope="module")
def shared_place():
    """A place that the tests of a file share; each uses tokens and mailboxes of its own."""
    with Place() as place_of_module:
        yield place_of_module


@pytest.fixture
def relay_to(place):
    """Starts a relay that grants everything to the tests, with this sink as next hop."""
    return lambda sink, **delivery: place.postern(granting(sink, **delivery))

"""Which worker of pytest-xdist is given which tests of a run that evaluates what is stored."""

from types import SimpleNamespace

import pytest

from fixtures.session.keys import SETTINGS
from fixtures.session.plugin import pytest_xdist_make_scheduler
from fixtures.session.scheduling import ByFile


class Node:
    """A worker that keeps what it is sent."""

    def __init__(self, name: str):
        self.gateway, self.sent, self.shutting_down = SimpleNamespace(id=name), [], False

    def send_runtest_some(self, numbers):
        self.sent.extend(numbers)

    def shutdown(self):
        self.shutting_down = True


def config(arguments=(), store_only=True):
    """What the scheduler asks of pytest's configuration."""
    return SimpleNamespace(
        stash={SETTINGS: SimpleNamespace(store_only=store_only)},
        invocation_params=SimpleNamespace(args=arguments),
        option=SimpleNamespace(loadscopereorder=True),
        getvalue=lambda name: 2 * ["popen"],
        getoption=lambda *asked: None,
    )


def shared(asked, tests: list[str], count: int) -> list[list[str]]:
    """The tests that each of so many workers is given, when all do them at the same pace."""
    scheduler = pytest_xdist_make_scheduler(asked, None)
    scheduler.numnodes = count
    nodes = [Node(str(number)) for number in range(count)]
    for node in nodes:
        scheduler.add_node(node)
    for node in nodes:
        scheduler.add_node_collection(node, tests)
    scheduler.schedule()
    done = dict.fromkeys(nodes, 0)
    while any(done[node] < len(node.sent) for node in nodes):
        for node in nodes:
            if done[node] < len(node.sent):
                done[node] += 1
                scheduler.mark_test_complete(node, node.sent[done[node] - 1])
    return [[tests[number] for number in node.sent] for node in nodes]


def test_a_file_is_evaluated_by_one_worker():
    tests = [f"probes/test_{name}.py::test_{number}" for name in "abcde" for number in range(15)]
    found = shared(config(), tests, 3)
    assert sorted(sum(found, [])) == sorted(tests)
    files = [{test.split("::")[0] for test in own} for own in found]
    assert sum(map(len, files)) == 5 and all(files)


def test_fewer_files_than_workers_are_shared_by_tests():
    tests = [f"probes/test_a.py::test_{number}" for number in range(12)]
    found = shared(config(), tests, 3)
    assert sorted(sum(found, [])) == sorted(tests) and all(found)


@pytest.mark.parametrize("arguments", [("--dist", "load"), ("--dist=worksteal",), ("-n", "2", "--tx", "2*popen")])
def test_whoever_says_how_is_heard(arguments):
    assert pytest_xdist_make_scheduler(config(arguments), None) is None


def test_what_captures_is_shared_by_tests():
    assert pytest_xdist_make_scheduler(config(store_only=False), None) is None
    assert isinstance(pytest_xdist_make_scheduler(config(("-n", "2")), None), ByFile)

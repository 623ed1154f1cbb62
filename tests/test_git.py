"""What git says of a file, in every state that a file can be in."""

import subprocess
from datetime import datetime

import pytest
from registered_project import commit, git, under_git

from fixtures.common import git as asked
from fixtures.common.git import committed, content_at, date_of, git_state, same_text

pytest_plugins = "pytester"
FIRST, SECOND = "2026-01-02T03:04:05+01:00", "2026-02-03T04:05:06+00:00"


@pytest.fixture
def file(pytester):
    under_git(pytester)
    found = pytester.path / "a [b].json"  # not a pattern
    found.write_text("1")
    return found


def test_a_committed_file_has_the_commit_and_the_date_that_last_changed_it(pytester, file):
    first = commit(pytester, FIRST)
    (pytester.path / "other").write_text("x")
    second = commit(pytester, SECOND)
    found = committed(file)
    assert (found.commit, found.problem) == (first, "") and second != first
    assert datetime.fromisoformat(found.date) == datetime.fromisoformat(FIRST)
    assert content_at(first, file) == b"1" and date_of(first, file.parent) == found.date
    assert git_state(file.parent) == {"commit": second, "dirty": False}


def test_a_file_that_was_changed_has_no_commit_until_it_is_committed(pytester, file):
    first = commit(pytester, FIRST)
    file.write_text("2")
    assert committed(file).commit is None and "changed since" in committed(file).problem
    git(pytester, "add", "--all")
    assert committed(file).commit is None
    second = commit(pytester, SECOND)
    assert committed(file).commit == second
    assert (content_at(first, file), content_at(second, file)) == (b"1", b"2")


@pytest.mark.parametrize("ignored", [False, True])
def test_a_file_that_is_not_in_git_has_none(pytester, file, ignored):
    (pytester.path / ".gitignore").write_text("*.json\n" if ignored else "")
    git(pytester, "add", ".gitignore")
    git(pytester, "commit", "--quiet", "--message", "x")
    found = committed(file)
    assert found.commit is None and "not in git" in found.problem and found.is_asked
    assert git_state(file.parent)["dirty"] is not ignored


def test_before_the_first_commit(file):
    assert committed(file).commit is None and git_state(file.parent) == {"commit": None, "dirty": True}


def test_outside_of_a_repository(tmp_path):
    (tmp_path / "a").write_text("1")
    found = committed(tmp_path / "a")
    assert found.commit is None and "not a git repository" in found.problem and not found.is_asked
    assert git_state(tmp_path) is None and content_at("HEAD", tmp_path / "a") is None


def test_a_shallow_clone_does_not_know_the_date(pytester, file):
    commit(pytester, FIRST)
    (pytester.path / "other").write_text("x")
    commit(pytester, SECOND)
    source = f"file://{pytester.path}"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", source, "shallow"], cwd=pytester.path, check=True)
    found = committed(pytester.path / "shallow" / file.name)
    assert found.commit is None and "shallow" in found.problem and not found.is_asked


def test_without_the_command(pytester, file, monkeypatch):
    commit(pytester)
    monkeypatch.setenv("PATH", "")
    found = committed(file)
    assert found.commit is None and "no command git" in found.problem and not found.is_asked
    assert git_state(file.parent) is None


def test_a_git_that_does_not_answer(pytester, file, monkeypatch):
    def run(*given, **more):
        raise subprocess.TimeoutExpired("git", 60)

    monkeypatch.setattr(asked.subprocess, "run", run)
    assert "could not be asked" in committed(file).problem


def test_a_file_that_git_was_told_not_to_look_at_has_no_date(pytester, file):
    """``--assume-unchanged`` hides a change from its status, a link what it leads to."""
    commit(pytester, FIRST)
    git(pytester, "update-index", "--assume-unchanged", file.name)
    assert committed(file).commit
    file.write_text("2")
    assert committed(file).commit is None and "has not the content of its commit" in committed(file).problem
    link = file.with_name("link.json")
    link.symlink_to(file)
    commit(pytester, SECOND)
    assert committed(link).commit is None


def test_line_ends_of_a_checkout_are_no_change():
    assert same_text(b"a\nb\n", b"a\r\nb\r\n") and not same_text(b"a\n", b"b\n") and not same_text(None, b"")

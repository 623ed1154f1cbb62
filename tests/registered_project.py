"""A toy project under git, for the tests of registrations and of what is verified."""

import os
import subprocess

import fixtures.__main__

SETTINGS = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")
LOCK = "registration.lock.json"


def git(project, *words: str, date: str | None = None) -> str:
    """Have git do something in the project, at another time than now for a date."""
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    dated = {"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date} if date else {}
    command = ["git", *SETTINGS, *words]
    return subprocess.run(
        command, cwd=project.path, check=True, capture_output=True, text=True, env=os.environ | own | dated
    ).stdout


def under_git(project) -> None:
    """Make the project a repository; nothing is in it yet."""
    (project.path / ".gitignore").write_text("reports/\n__pycache__/\nstore/\n")
    git(project, "init", "--quiet")


def commit(project, date: str | None = None) -> str:
    """Commit all there is, and return the commit."""
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", "as it is", date=date)
    return git(project, "rev-parse", "HEAD").strip()


def command(project, monkeypatch, *words: str) -> int:
    """The exit code of ``python -m fixtures`` in the project."""
    monkeypatch.setattr(fixtures.__main__, "ROOT", project.path)
    return fixtures.__main__.main(list(words))

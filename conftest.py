"""Options and fixtures of the suite: see fixtures/session/plugin.py."""

pytest_plugins = ["fixtures.session.plugin"]

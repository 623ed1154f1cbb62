"""Options and fixtures of the suite: see fixtures/plugin.py."""

pytest_plugins = ["fixtures.plugin"]

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.claims.ladder import CONTROLS
from fixtures.common.errors import ProbeError
from fixtures.session.option_table import OPTIONS
from fixtures.session.options import resolve_settings

ROOT = Path("/root-of-the-project")
seeds = st.one_of(st.none(), st.integers(0, 10**6).map(str))


@given(command_line=seeds, environment=seeds, ini=seeds)
def test_command_line_over_environment_over_ini_over_default(command_line, environment, ini):
    variables = {} if environment is None else {"PROBES_SEED": environment}
    settings = resolve_settings({"seed": command_line}, {"seed": ini}, ROOT, variables)
    candidates = [("command line", command_line), ("environment", environment), ("ini", ini), ("default", "0")]
    source, value = next((source, value) for source, value in candidates if value is not None)
    assert settings.seed == int(value)
    assert settings.record()["seed"] == {"value": int(value), "source": source}


def test_defaults():
    settings = resolve_settings({}, {}, ROOT, {})
    assert (settings.model, settings.null, settings.refresh) == ("klein-mini", "exact", False)
    assert settings.reports == ROOT / "reports"
    assert set(settings.record()) == {option.name for option in OPTIONS}


@pytest.mark.parametrize("text", ["1", "true", "YES", "on"])
def test_flags_take_truth_values_from_the_environment(text):
    assert resolve_settings({}, {}, ROOT, {"PROBES_REFRESH": text}).refresh is True


@pytest.mark.parametrize(
    ("command_line", "environment", "message"),
    [
        ({"seed": "x"}, {}, "--seed: 'x' is not valid; expected a whole number"),
        ({"seed": str(2**32)}, {}, "--seed: '4294967296' is not valid; expected a whole number from 0 to"),
        ({"seed": "-1"}, {}, "--seed: '-1' is not valid"),
        ({"null": "fast"}, {}, "--null: 'fast' is not known; expected one of exact, monte-carlo, published"),
        ({"dtype": "int8"}, {}, "--dtype: 'int8' is not known"),
        ({"resolution": "100"}, {}, "--resolution 100: expected a multiple of 16"),
        ({"controls": "placebo,taste"}, {}, "--controls: 'taste' is not known; expected all, none or a list of"),
        ({"permutations": "10"}, {}, "--permutations: '10' is not valid; expected a whole number from 200 to"),
        ({}, {"PROBES_REFRESH": "maybe"}, "PROBES_REFRESH: 'maybe' is not a truth value"),
        ({}, {"PROBES_NULL": "fast"}, "PROBES_NULL: 'fast' is not known"),
    ],
)
def test_a_bad_value_names_the_option_and_its_place(command_line, environment, message):
    with pytest.raises(ProbeError, match=message):
        resolve_settings(command_line, {}, ROOT, environment)


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        (None, None, None),
        ("all", CONTROLS, ",".join(CONTROLS)),
        ("none", (), "none"),
        ("placebo, held_out", ("placebo", "held_out"), "placebo,held_out"),
    ],
)
def test_controls_are_all_none_or_a_list(text, expected, shown):
    settings = resolve_settings({"controls": text}, {}, ROOT, {})
    assert settings.controls == expected and settings.record()["controls"]["value"] == shown

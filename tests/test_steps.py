"""`--steps`: what it asks for."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.common.errors import ProbeError
from fixtures.common.steps import Steps, parse_steps
from fixtures.session.options import resolve_settings


@given(st.data())
def test_a_number_of_steps_is_spread_evenly_from_the_first_to_the_last(data):
    there = data.draw(st.integers(1, 60))
    count = data.draw(st.integers(1, there))
    found = parse_steps(str(count), "--steps").of(there)
    assert found == tuple(sorted(set(found))) and len(found) == count
    assert found[0] == 1 and found[-1] <= there and (count == 1 or found[-1] == there)
    apart = {later - earlier for earlier, later in zip(found, found[1:], strict=False)}
    assert not apart or max(apart) - min(apart) <= 1


@given(st.sets(st.integers(1, 50), min_size=2), st.randoms())
def test_a_list_names_the_steps_in_any_order(numbers, random):
    listed = sorted(numbers, key=lambda number: random.random())
    steps = parse_steps(", ".join(map(str, listed)), "--steps")
    assert steps.of(50) == tuple(sorted(numbers)) and str(steps) == ",".join(map(str, sorted(numbers)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "--steps .command line.: '0' has a 0; expected a number of steps, as in 4"),
        ("0,1", "'0,1' has a 0"),
        ("1,4,4", "'1,4,4' has step 4 twice"),
        ("four", "'four' is not valid; expected a number of steps"),
        ("-1", "'-1' is not valid"),
        ("2.5", "'2.5' is not valid"),
        ("1,,3", "'1,,3' is not valid"),
        ("4,", "'4,' is not valid"),
        ("99999999999", "is not valid"),
    ],
)
def test_what_is_not_a_list_of_steps_is_refused(text, message):
    with pytest.raises(ProbeError, match=message):
        resolve_settings({"steps": text}, {}, Path("/root-of-the-project"), {})


@pytest.mark.parametrize("text", ["15", "1,15"])
def test_more_steps_than_a_generation_has_are_refused(text):
    with pytest.raises(ProbeError, match=f"--steps {text}: the model's generations have 14 steps; expected at most"):
        parse_steps(text, "--steps").of(14)


def test_the_options_record_is_what_was_asked_and_nothing_by_default():
    root = Path("/root-of-the-project")
    assert resolve_settings({}, {}, root, {}).steps is None
    assert resolve_settings({}, {}, root, {}).record()["steps"] == {"value": None, "source": "default"}
    settings = resolve_settings({"steps": "8,1"}, {}, root, {})
    assert settings.steps == Steps(numbers=(1, 8))
    assert settings.record()["steps"] == {"value": "1,8", "source": "command line"}
    assert resolve_settings({}, {}, root, {"PROBES_STEPS": "3"}).steps == Steps(count=3)

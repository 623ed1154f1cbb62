"""The cross-validated mean square of log ratios, against brute force and by what it must not depend on."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fixtures.statistics.cross_products import wording_numbers
from fixtures.statistics.log_effect import effect_without_one, log_effect, log_effect_square, log_ratios, percent

VALUES = st.floats(-2, 2, allow_nan=False, width=32)


@st.composite
def ratios(draw, most=7):
    shape = draw(st.tuples(st.integers(3, most), st.integers(1, 4)))
    values = draw(arrays(np.float64, shape, elements=VALUES))
    labels = draw(st.lists(st.sampled_from("abc"), min_size=shape[0], max_size=shape[0]))
    labels[:2] = "ab"
    return values, draw(st.sampled_from([None, labels]))


def brute(values, labels) -> np.ndarray:
    """Per unit: the mean product over ordered pairs of pairs of different wordings."""
    n = len(values)
    labels = list(range(n)) if labels is None else labels
    found = [values[i] * values[j] for i in range(n) for j in range(n) if labels[i] != labels[j]]
    return np.mean(found, axis=0)


@given(ratios())
@settings(deadline=None)
def test_equals_brute_force(given_):
    values, labels = given_
    found, expected = log_effect(values, labels), brute(values, labels)
    assert found.mean_square == pytest.approx(expected.mean(), abs=1e-12)
    assert log_effect_square(values, labels) == found.mean_square
    flips = [brute(values * np.array(signs)[:, None], labels).mean() for signs in product((1, -1), repeat=len(values))]
    slack = 1e-9 * np.abs(values @ values.T).sum() / values.shape[1] + 1e-15
    at_least = np.mean(np.array(flips) >= expected.mean() + slack)
    at_most = np.mean(np.array(flips) >= expected.mean() - slack)
    assert at_least <= found.p <= at_most and found.exhaustive


@given(ratios(), st.integers(0, 2**16))
@settings(deadline=None)
def test_neither_order_nor_exchange_nor_names_matter(given_, seed):
    values, labels = given_
    first, order = log_effect(values, labels), np.random.default_rng(seed).permutation(len(values))
    moved = log_effect(values[order], None if labels is None else [labels[number] for number in order])
    renamed = log_effect(-values, None if labels is None else [f"wording {label}" for label in labels])
    for other in (moved, renamed):
        assert other.mean_square == pytest.approx(first.mean_square, abs=1e-12)
        assert (other.low, other.high) == pytest.approx((first.low, first.high), abs=1e-9, nan_ok=True)
        assert other.p == pytest.approx(first.p, abs=2 ** (2 - len(values)))  # flips that tie by rounding


@given(arrays(np.float64, (6, 3), elements=st.floats(0.1, 10)), st.floats(0.01, 100))
@settings(deadline=None)
def test_the_scale_of_a_unit_does_not_matter(values, scale):
    a, b = values[:3], values[3:]
    np.testing.assert_allclose(log_ratios(a * scale, b * scale), log_ratios(a, b), atol=1e-9)


def test_it_is_unbiased_and_its_p_uniform_where_there_is_nothing():
    rng = np.random.default_rng(0)
    found = [log_effect(rng.standard_normal((8, 12)) * rng.uniform(0.1, 3, 12)) for _ in range(400)]
    squares = np.array([effect.mean_square for effect in found])
    assert abs(squares.mean()) < 3 * squares.std() / 20
    p = np.array([effect.p for effect in found])
    for level in (0.05, 0.2, 0.5):
        assert abs(np.mean(p <= level) - level) < 3 * np.sqrt(level * (1 - level) / len(p)) + 2**-7


def test_correlated_units_change_nothing_in_the_level():
    rng = np.random.default_rng(1)
    p = [log_effect(rng.standard_normal((9, 1)) + 0.1 * rng.standard_normal((9, 20))).p for _ in range(300)]
    assert np.mean(np.array(p) <= 0.05) < 0.09


@pytest.mark.parametrize("labels", [None, np.repeat(np.arange(8), 2)[:15]])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(labels):
    rng = np.random.default_rng(2)
    common = 0.3 * rng.standard_normal(60)
    inside = 0
    for _ in range(300):
        effect = log_effect(common + 0.5 * rng.standard_normal((15, 60)), labels)
        inside += effect.low <= np.mean(common**2) <= effect.high
    assert 0.91 <= inside / 300 <= 0.99


def test_what_one_wording_does_is_no_evidence_across_wordings():
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(5), 5)
    own = rng.standard_normal((5, 200))[labels] + 0.1 * rng.standard_normal((25, 200))
    assert log_effect(own).mean_square > 0.1 and log_effect(own).p < 0.01
    across = log_effect(own, labels)
    assert abs(across.mean_square) < 0.1 and across.low < 0 < across.high


def test_more_pairs_than_can_be_enumerated_are_drawn():
    rng = np.random.default_rng(4)
    found = log_effect(0.2 + rng.standard_normal((30, 50)), permutations=500, seed=7)
    assert not found.exhaustive and found.p == pytest.approx(1 / 500)
    again = log_effect(0.2 + rng.standard_normal((30, 50)), permutations=500, seed=7)
    assert again.p * 500 == pytest.approx(round(again.p * 500))


def test_25_pairs_are_counted_whole():
    found = log_effect(np.ones((25, 2)))
    assert found.exhaustive and found.p == 2**-24 and found.mean_square == pytest.approx(1)
    assert percent(found.mean_square) == pytest.approx(100) and percent(-0.01) == pytest.approx(-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]],), "at least 2 pairs"),
        (([[1.0], [np.nan]],), "is not finite"),
        (([[1.0], [2.0]], ["a"]), "one for each of 2 pairs, got 1"),
        (([[1.0], [2.0]], ["a", "a"]), "at least 2 different ones"),
        (([[1.0], [2.0]], None, 10, 0, 1.5), "confidence"),
        (([[1.0], [2.0]], None, 10, 0, 0.95, 0.0), "smallest"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        log_effect(*arguments)


def test_ratios_of_silent_units():
    assert log_ratios([[0.0, 2.0]] * 2, [[0.0, 1.0]] * 2)[0].tolist() == [0.0, pytest.approx(np.log(2))]
    with pytest.raises(ValueError, match="no log ratio of 0.0 and 1.0 at pair 0, unit 0"):
        log_ratios([[0.0]] * 2, [[1.0]] * 2)
    with pytest.raises(ValueError, match="no log ratio of -1.0"):
        log_ratios([[-1.0]] * 2, [[1.0]] * 2)
    with pytest.raises(ValueError, match="the same shape"):
        log_ratios([[1.0]] * 2, [[1.0]] * 3)


# the smallest effect of interest


def planted(rng, size, n_pairs, n_units=400, sd=0.02):
    """Log ratios with an effect of ``size`` in directions of its own, on noise."""
    common = rng.standard_normal(n_units)
    return size * common / np.sqrt(np.mean(common**2)) + sd * rng.standard_normal((n_pairs, n_units))


def test_nothing_is_called_absent_and_an_effect_of_interest_rarely():
    rng = np.random.default_rng(11)
    nothing = [log_effect(planted(rng, 0.0, 20), smallest=0.01) for _ in range(200)]
    there = [log_effect(planted(rng, 0.01, 20), smallest=0.01) for _ in range(200)]
    assert np.mean([found.absent_p <= 0.05 for found in nothing]) >= 0.9
    assert np.mean([found.absent_p <= 0.05 for found in there]) <= 0.08
    assert np.mean([found.larger_p <= 0.05 for found in there]) <= 0.08
    larger = [log_effect(planted(rng, 0.02, 20), smallest=0.01) for _ in range(50)]
    assert np.mean([found.larger_p <= 0.05 for found in larger]) >= 0.9


@pytest.mark.parametrize("sd", [0.05, 0.1])
def test_the_power_is_that_of_the_effect_of_interest_and_the_pairs_are_enough(sd):
    rng = np.random.default_rng(12)
    found = log_effect(planted(rng, 0.0, 16, sd=sd), smallest=0.01)
    seen = [log_effect(planted(rng, 0.01, 16, sd=sd), smallest=0.01).p <= 0.05 for _ in range(200)]
    assert abs(np.mean(seen) - found.power) < 0.15
    assert (found.pairs > 16) == (found.power < 0.9)
    if found.pairs <= 200:
        many = log_effect(planted(rng, 0.0, found.pairs, sd=sd), permutations=200, smallest=0.01)
        assert many.power == pytest.approx(0.9, abs=0.05)


def test_nothing_at_all_is_absent_with_full_power_and_noise_without_end_asks_for_too_many_pairs():
    silent = log_effect(np.zeros((9, 4)))
    assert (silent.absent_p, silent.power, silent.larger_p) == (0.0, 1.0, 1.0) and silent.pairs == 2
    rng = np.random.default_rng(13)
    assert log_effect(rng.standard_normal((9, 1))).pairs is None


def test_without_one_is_the_smallest_by_brute_force():
    rng = np.random.default_rng(14)
    values, labels = 0.4 + rng.standard_normal((8, 30)), list("aabbccdd")
    values[2:4] += 2.0
    found = effect_without_one(values, labels)
    left = {label: [number for number, other in enumerate(labels) if other != label] for label in "abcd"}
    each = {label: log_effect(values[rows]) for label, rows in left.items()}
    least = min(each, key=lambda label: each[label].mean_square)
    assert found.without == least == "b" and found.pairs_left == 6
    assert found.mean_square == pytest.approx(each[least].mean_square) and found.p == each[least].p
    with pytest.raises(ValueError, match="fewer than 2 pairs are left"):
        effect_without_one(values[:3], ["a", "a", "b"])


def test_wordings_are_numbered_in_order():
    assert wording_numbers(["x", "b", "x"], 3).tolist() == [0, 1, 0]
    assert wording_numbers(None, 3).tolist() == [0, 1, 2]

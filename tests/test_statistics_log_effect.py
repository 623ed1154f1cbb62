"""The cross-validated mean square of log ratios, against brute force and by what it must not depend on."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fixtures.statistics.amplification import amplification
from fixtures.statistics.cross_products import wording_numbers
from fixtures.statistics.log_effect import log_effect, log_effect_square, log_ratios, percent

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


# against twins


def networks(rng, effects, n_pairs=25, n_units=80, noise=0.3):
    shown = rng.standard_normal((n_pairs, n_units)) * noise  # what all networks make of a pair
    return [
        effect * rng.standard_normal(n_units) + shown + 0.1 * rng.standard_normal((n_pairs, n_units))
        for effect in effects
    ]


def test_one_more_twin_is_learned_as_often_as_the_level_says():
    rng = np.random.default_rng(5)
    p = []
    for _ in range(300):
        own, *twins = networks(rng, rng.uniform(0.18, 0.22, 7))
        p.append(amplification(own, twins).p)
    assert np.mean(np.array(p) <= 0.05) <= 0.08


def test_a_model_that_amplifies_is_found_and_by_how_much():
    rng = np.random.default_rng(6)
    own, *twins = networks(rng, [0.4, *[0.2] * 6])
    found = amplification(own, twins)
    assert found.p < 0.01 and found.low > 0 and found.ratio == pytest.approx(2, abs=0.4)
    less = amplification(twins[0], [own, *twins[1:]])
    assert less.p > 0.3


def test_where_twins_have_nothing_there_is_no_ratio():
    rng = np.random.default_rng(7)
    own, *twins = networks(rng, [0.3, *[0.0] * 6])
    found = amplification(own, twins)
    assert found.ratio is None and found.p < 0.01 and found.low > 0


def test_wordings_count_in_the_comparison_too():
    rng = np.random.default_rng(8)
    labels = np.repeat(np.arange(5), 5)
    own, *twins = networks(rng, [0.0] * 5)
    own = own + 0.5 * rng.standard_normal((5, 80))[labels]
    assert amplification(own, twins).p < 0.05
    assert amplification(own, twins, labels).low < 0


def test_two_wordings_are_too_few_for_an_interval():
    rng = np.random.default_rng(10)
    own, *twins = networks(rng, [0.4, 0.1, 0.1, 0.1])
    labels = np.arange(25) % 2
    found = amplification(own, twins, labels)
    assert (found.low, found.high, found.p, found.ratio) == (-np.inf, np.inf, 1.0, None)
    assert log_effect(own, labels).low == -np.inf


def test_bad_twins_are_named():
    rng = np.random.default_rng(9)
    own, *twins = networks(rng, [0.1] * 4)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        amplification(own, twins[:1])
    with pytest.raises(ValueError, match="expected arrays of shape"):
        amplification(own, [twins[0], twins[1][:, 1:]])


def test_wordings_are_numbered_in_order():
    assert wording_numbers(["x", "b", "x"], 3).tolist() == [0, 1, 0]
    assert wording_numbers(None, 3).tolist() == [0, 1, 2]

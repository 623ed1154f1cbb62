"""The amplification of parts of a network: each is that of its units, and all intervals hold at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.statistics.amplification import amplification
from fixtures.statistics.amplification_parts import amplification_of_parts
from fixtures.statistics.cross_products import Products


def networks(rng, effects, n_pairs=12, n_units=24):
    """Log ratios of networks with effects of these sizes, which were shown the same pairs."""
    shown = 0.3 * rng.standard_normal((n_pairs, n_units))
    return [
        effect * rng.standard_normal(n_units) + shown + 0.1 * rng.standard_normal((n_pairs, n_units))
        for effect in effects
    ]


def thirds(n_units=24):
    return {name: np.arange(n_units) % 3 == number for number, name in enumerate("abc")}


def split(own, twins, parts):
    return {name: [values[:, units] for values in (own, *twins)] for name, units in parts.items()}


@given(st.integers(0, 2**16), st.integers(2, 5), st.floats(0.5, 0.99))
@settings(deadline=None, max_examples=30)
def test_each_part_is_the_amplification_of_its_units_with_a_share_of_the_error(seed, n_twins, confidence):
    rng = np.random.default_rng(seed)
    own, *twins = networks(rng, rng.uniform(0, 0.5, 1 + n_twins), n_pairs=8)
    parts = thirds() | {"all": np.ones(24, bool)}
    found = amplification_of_parts(split(own, twins, parts), confidence=confidence)
    assert list(found) == list(parts)
    for name, units in parts.items():
        within = [values[:, units] for values in (own, *twins)]
        alone = amplification(within[0], within[1:], confidence=1 - (1 - confidence) / 4)
        assert vars(found[name]) == pytest.approx(vars(alone))
        single = amplification(within[0], within[1:], confidence=confidence)
        assert found[name].low <= single.low <= single.ratio <= single.high <= found[name].high
        assert found[name].p == single.p


def test_one_part_has_the_interval_of_the_whole():
    own, *twins = networks(np.random.default_rng(1), [0.5, 0.1, 0.2, 0.1])
    whole = amplification(own, twins)
    assert vars(amplification_of_parts({"all": [own, *twins]})["all"]) == pytest.approx(vars(whole))


def test_all_intervals_of_one_more_twin_cover_1_as_often_as_they_say():
    rng, right = np.random.default_rng(5), []
    for _ in range(300):
        own, *twins = networks(rng, np.exp(rng.normal(np.log(0.2), 0.15, 7)))
        found = amplification_of_parts(split(own, twins, thirds()))
        right.append(all(one.low <= 1 <= one.high for one in found.values()))
    assert np.mean(right) >= 0.93


def test_products_do_for_log_ratios_and_a_part_without_a_unit_is_refused():
    own, *twins = networks(np.random.default_rng(1), [0.5, 0.1, 0.2, 0.1])
    parts = split(own, twins, thirds())
    products = {name: [Products.of(values) for values in part] for name, part in parts.items()}
    found, same = amplification_of_parts(parts), amplification_of_parts(products)
    assert [vars(found[name]) for name in parts] == [vars(same[name]) for name in parts]
    with pytest.raises(ValueError):
        amplification_of_parts(split(own, twins, {"a": np.zeros(24, bool)}))

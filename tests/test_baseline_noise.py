import numpy as np
import pytest
from baseline_factory import BLOCKS, NOISE, baseline, t_maps
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fixtures.baseline.compare import compare_hypothesis
from fixtures.baseline.noise import (
    LEVEL,
    RESOLUTION,
    correlation,
    count_bounds,
    count_p,
    holm,
    left_out_distances,
    noise_floor,
    rms,
    units_by_block,
)

finite = st.floats(-20, 20, width=32)
maps = st.tuples(st.integers(3, 7), st.integers(1, 9)).flatmap(lambda shape: arrays(np.float64, shape, elements=finite))


@given(maps)
def test_the_floor_is_what_the_covariance_of_units_says(t):
    floor = noise_floor(t)
    covariance = np.atleast_2d(np.cov(t, rowvar=False))
    typical = np.sqrt(np.trace(covariance) / t.shape[1] * (1 + 1 / len(t)))
    assert floor.typical == pytest.approx(max(typical, RESOLUTION), rel=1e-6)
    if typical > RESOLUTION:
        freedom = np.trace(covariance) ** 2 / np.trace(covariance @ covariance)
        assert floor.freedom == pytest.approx(max(freedom, 1), rel=1e-6)
        assert floor.freedom <= min(len(t) - 1, t.shape[1]) + 1e-6


@given(maps, st.floats(1e-6, 0.5))
def test_the_bound_of_a_level_has_that_p(t, p):
    floor = noise_floor(t)
    assert floor.p(floor.bound(p)) == pytest.approx(p, rel=1e-6)
    assert floor.p(0) == 1 and floor.p(floor.bound(p) * 1.01) < p


@given(maps, st.floats(0.5, 50), st.integers(0, 2**32 - 1))
def test_the_floor_does_not_depend_on_the_order_of_seeds_or_units_and_scales_with_t(t, factor, seed):
    floor, generator = noise_floor(t), np.random.default_rng(seed)
    mixed = noise_floor(t[generator.permutation(len(t))][:, generator.permutation(t.shape[1])])
    assert mixed.typical == pytest.approx(floor.typical) and mixed.freedom == pytest.approx(floor.freedom, rel=1e-6)
    if floor.typical > 2 * RESOLUTION:
        assert noise_floor(factor * t).typical == pytest.approx(factor * floor.typical)


def test_one_unit_is_a_students_t():
    t = np.array([[1.0], [1.4], [0.7], [1.1]])
    t_of_a_fifth = (2.0 - t.mean()) / (t.std(ddof=1) * np.sqrt(1 + 1 / 4))
    floor = noise_floor(t)
    assert floor.p(floor.distance([2.0])) == pytest.approx(2 * stats.t.sf(t_of_a_fifth, 3))


def test_a_unit_without_t_under_some_seed_is_left_out():
    t = t_maps(6, np.random.default_rng(0))
    holed = t.copy()
    holed[2, :7] = np.nan
    assert noise_floor(holed).typical == pytest.approx(noise_floor(t[:, 7:]).typical)
    assert noise_floor(holed).distance(t[0]) == pytest.approx(noise_floor(t[:, 7:]).distance(t[0, 7:]))
    assert noise_floor(np.full((4, 3), np.nan)).distance([1.0, 2.0, 3.0]) == 0


def test_maps_that_noise_does_not_move_still_allow_for_rounding():
    floor = noise_floor(np.ones((6, 50)))
    assert floor.typical == RESOLUTION
    assert floor.p(floor.distance(np.full(50, 1 + RESOLUTION / 2))) > 0.5
    assert floor.p(floor.distance(np.full(50, 1.1))) < 1e-4


@given(maps)
def test_left_out_distances_are_to_the_mean_of_the_others(t):
    expected = [rms(row - np.mean([other for k, other in enumerate(t) if k != i], axis=0)) for i, row in enumerate(t)]
    assert left_out_distances(t) == pytest.approx(expected)


@given(arrays(np.float64, st.tuples(st.just(2), st.integers(2, 30)), elements=finite))
def test_correlation_is_numpys(t):
    if (t.std(axis=1) > 1e-3).all():
        assert correlation(*t) == pytest.approx(np.corrcoef(t)[0, 1], abs=1e-9)
    with_gap = np.insert(t, 1, [np.nan, 3.0], axis=1)
    assert correlation(*with_gap) == pytest.approx(correlation(*t), nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_holm_is_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@given(st.lists(st.integers(0, 500), min_size=3, max_size=8), st.floats(1e-5, 0.4))
def test_count_bounds_have_that_p(counts, p):
    low, high = count_bounds(counts, p)
    assert count_p(high, counts) == pytest.approx(p, rel=1e-6)
    assert low <= np.mean(counts) <= high
    assert count_p(min(counts), counts) > LEVEL and count_p(max(counts), counts) > LEVEL  # a seed of the floor is none


def test_a_count_that_never_moved_may_move_by_one():
    assert count_p(1, [0] * 6) > LEVEL > count_p(9, [0] * 6)


def test_blocks_keep_the_models_order():
    assert units_by_block(["b", "b", "a"]) == {"whole": [0, 1, 2], "b": [0, 1], "a": [2]}


@pytest.mark.parametrize("seeds", [4, 6, 9])
def test_an_unchanged_model_is_rarely_called_changed(seeds):
    """300 comparisons of three hypotheses each, on maps whose units move together."""
    generator, names, alarms = np.random.default_rng(seeds), ("one", "two", "three"), 0
    for _ in range(300):
        drawn = {name: t_maps(seeds + 1, generator) for name in names}
        then = baseline(drawn["one"][:-1], names)
        then.maps.update({name: t[:-1] for name, t in drawn.items()})
        now = baseline(drawn["one"][-2:], names, seed=99)
        now.maps.update({name: t[-1:] for name, t in drawn.items()})
        alarms += any(_moved_map(compare_hypothesis(name, then, now)) for name in names)
    assert alarms <= stats.binom.ppf(0.999, 300, 0.02)


def _moved_map(change: dict) -> bool:
    return any(row["moved"] for row in (change["whole"], *change["blocks"]))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(set(BLOCKS))))
def test_a_change_in_one_block_is_found_and_named(seed, block):
    drawn = t_maps(7, np.random.default_rng(seed))
    moved = drawn[6].copy()
    moved[[name == block for name in BLOCKS]] += 8 * NOISE
    change = compare_hypothesis("one", baseline(drawn[:6]), baseline(np.array([moved, moved])))
    assert change["verdict"] == "changed"
    assert max(change["blocks"], key=lambda row: row["movement"])["block"] == block
    assert f"most {block}" in change["reason"]

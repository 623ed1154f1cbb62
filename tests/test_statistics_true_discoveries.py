"""True-discovery bounds: against their definition, every subset, exact level, planted truth and published code."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, ttest_1samp

from fixtures.statistics import resampling
from fixtures.statistics.paired_t import paired_t
from fixtures.statistics.true_discoveries import true_discovery_bounds

# Drawn once, with a mean of 1.1 in the first six units and of 0.7 in two more.
FIXED = np.array(
    [
        [0.7, -0.3, 2.3, 1.4, 2.2, 0.9, 2.4, 0.5, -1.2, 1.4],
        [0.2, 0.2, 4.0, 0.5, 2.1, 0.4, 0.8, 1.5, 0.2, 2.1],
        [-0.3, 1.8, 0.5, 2.0, 1.6, 1.0, -0.6, 1.0, -1.6, -0.9],
        [3.2, 1.7, -0.3, 0.4, -0.5, 1.3, 0.2, 0.6, 0.8, 1.1],
        [-0.2, 1.0, 2.3, 1.5, 0.9, 0.6, -0.7, 0.3, -0.7, 1.7],
        [-0.9, 1.6, -0.1, 0.9, 1.3, 2.9, 0.6, 0.7, 1.1, 1.5],
        [2.5, 1.3, 0.1, 0.2, 0.5, 0.0, -0.2, 2.5, 0.0, -0.7],
        [1.5, 0.0, 2.2, 0.1, 2.1, 0.6, 1.5, 2.6, 0.9, -0.9],
    ]
)

noise = st.integers(0, 10_000).map(np.random.default_rng)
# Whole numbers: ties between flips and units, units of zeros, units without variance.
whole = st.tuples(st.integers(2, 7), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))
)
levels = st.sampled_from([0.05, 0.1, 0.3, 0.6])


def flips(n_pairs):
    """All flips up to a global sign, the identity first."""
    return np.array([(1.0, *rest) for rest in product((1.0, -1.0), repeat=n_pairs - 1)])


def p_values(differences):
    """SciPy's, of every unit; 1 where t is not defined."""
    t, p = paired_t(differences), np.ones(differences.shape[1])
    defined = ~np.isnan(t) & (t != 0)
    p[defined] = ttest_1samp(differences[:, defined], 0).pvalue
    return p


def subsets(n_units):
    return [frozenset(chosen) for size in range(n_units + 1) for chosen in combinations(range(n_units), size)]


def as_sets(subsets):
    return {chosen: np.array(sorted(chosen), int) for chosen in subsets}


def planted(rng, n_pairs, n_units, n_planted, effect=1.5):
    """Correlated noise, and an effect in the first units."""
    noise = rng.standard_normal((n_pairs, n_units)) + rng.standard_normal((n_pairs, 1))
    return noise + np.where(np.arange(n_units) < n_planted, effect * np.sqrt(2), 0)


@settings(max_examples=25, deadline=None)
@given(noise, st.integers(4, 8), st.integers(1, 8), st.sampled_from([0.1, 0.3, 0.6]))
def test_every_subset_has_the_bound_of_the_definition(rng, n_pairs, n_units, alpha):
    """The largest part of a set that the reference family still lets be null, over all sets of null units: what
    closed testing gives with the local test "some R_k holds k or more of the units"."""
    differences = rng.standard_normal((n_pairs, n_units)) + rng.exponential(1, n_units)
    everything = subsets(n_units)
    found = true_discovery_bounds(differences, as_sets(everything), alpha)
    ranks = np.arange(1, n_units + 1)
    slopes = [(np.sort(p_values(differences * flip[:, None])) * n_units / ranks).min() for flip in flips(n_pairs)]
    assert (found.flips, found.exhaustive) == (len(slopes), True)
    assert found.slope == pytest.approx(np.sort(slopes)[int(alpha * len(slopes))], rel=1e-9)
    p = p_values(differences)
    families = [set(np.flatnonzero(p < found.slope * (1 - 1e-9) * k / n_units)) for k in ranks]
    allowed = [null for null in everything if all(len(null & below) < k for k, below in enumerate(families, 1))]
    for chosen, bound in found.at_least.items():
        false = min((len(chosen - below) + k - 1 for k, below in enumerate(families, 1)), default=0)
        assert bound == len(chosen) - min(false, len(chosen))
        assert bound == len(chosen) - max(len(chosen & null) for null in allowed)


@settings(max_examples=60, deadline=None)
@given(whole, levels, st.data())
def test_bounds_fit_together(differences, alpha, data):
    n_units = differences.shape[1]
    members = st.lists(st.integers(0, n_units - 1), unique=True)
    first, second = frozenset(data.draw(members)), frozenset(data.draw(members))
    sets = as_sets({first, second, first | second, first & second})
    found = true_discovery_bounds(differences, sets, alpha).at_least
    assert all(0 <= bound <= len(chosen) for chosen, bound in found.items())
    assert max(found[first], found[second]) <= found[first | second]
    # A unit more is at most one discovery more.
    assert found[first | second] <= found[first] + len(second - first)
    stricter = true_discovery_bounds(differences, sets, alpha / 2).at_least
    assert all(stricter[chosen] <= found[chosen] for chosen in sets)


@settings(max_examples=60, deadline=None)
@given(whole, levels, st.data())
def test_scale_exchange_and_order_change_nothing(differences, alpha, data):
    n_pairs, n_units = differences.shape
    sets = as_sets(subsets(n_units))
    found = true_discovery_bounds(differences, sets, alpha).at_least
    scales = np.array(data.draw(st.lists(st.sampled_from([1e-9, 0.1, 3.0, 1e12]), min_size=n_units, max_size=n_units)))
    order = data.draw(st.permutations(range(n_pairs)))
    for other in (differences * scales, -differences, differences[order], -differences[order] * scales):
        assert true_discovery_bounds(other, sets, alpha).at_least == found


@settings(max_examples=60, deadline=None)
@given(whole, levels)
def test_at_most_a_share_alpha_of_all_labellings_claims_anything(differences, alpha):
    """The level is exact: every flip of the same data is analysed as if it had been observed, ties included."""
    every = np.arange(differences.shape[1])
    signs = flips(len(differences))
    found = [true_discovery_bounds(differences * flip[:, None], {"all": every}, alpha) for flip in signs]
    assert sum(result.at_least["all"] > 0 for result in found) <= alpha * len(signs)
    assert {result.flips for result in found} == {len(signs)}


def test_the_level_is_used_up_where_there_are_no_ties():
    differences = np.random.default_rng(0).standard_normal((7, 9))
    found = [true_discovery_bounds(differences * flip[:, None], {"all": np.arange(9)}) for flip in flips(7)]
    assert sum(result.at_least["all"] > 0 for result in found) == int(0.05 * 64)


@pytest.mark.parametrize("correlated", [0, 3])
def test_noise_is_seldom_called_a_discovery(correlated):
    """200 data sets with drawn flips: each has a false claim with probability 0.05."""
    false = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        differences = rng.standard_normal((12, 30)) + correlated * rng.standard_normal((12, 1))
        found = true_discovery_bounds(differences, {"all": np.ones(30, bool)}, permutations=200, seed=seed)
        assert not found.exhaustive
        false += found.at_least["all"] > 0
    assert binom.ppf(0.001, 200, 0.05) <= false <= binom.ppf(0.999, 200, 0.05)


def test_a_planted_concept_is_found_and_no_set_chosen_after_looking_is_overrated():
    wrong, n_planted, truth = 0, 15, np.arange(40) < 15
    for seed in range(200):
        differences = planted(np.random.default_rng(seed), 15, 40, n_planted)
        strongest = np.argsort(-np.abs(paired_t(differences)))
        sets = {size: strongest[:size] for size in range(1, 41)} | {"planted": truth, "others": ~truth}
        found = true_discovery_bounds(differences, sets, permutations=200, seed=seed).at_least
        assert 0 < found["planted"] <= n_planted
        wrong += found["others"] > 0 or any(found[size] > truth[sets[size]].sum() for size in range(1, 41))
    assert wrong <= binom.ppf(0.999, 200, 0.05)


def test_the_published_code_gives_the_same():
    """sanssouci 0.1.5 (Python) by the authors of the method, run on all 128 flips of the fixed data:
    ``get_pivotal_stats``, its 6/127 quantile, ``linear_template``, ``min_tp`` and ``curve_max_fp``."""
    strongest = [4, 7, 3, 5, 1, 2, 0, 9, 6, 8]
    sets = {"all": range(10), "first": range(6), "rest": range(6, 10), "odd": range(1, 10, 2)}
    sets |= {size: strongest[:size] for size in range(1, 11)}
    found = true_discovery_bounds(FIXED, {name: list(units) for name, units in sets.items()}, alpha=6 / 127)
    assert found.slope == pytest.approx(0.06397522002726688, rel=1e-12)
    assert [found.at_least[name] for name in ("all", "first", "rest", "odd")] == [3, 2, 0, 2]
    assert [found.at_least[size] for size in range(1, 11)] == [0, 1, 2, 2, 3, 3, 3, 3, 3, 3]


def test_flips_in_several_chunks_are_as_all_at_once(monkeypatch):
    differences = planted(np.random.default_rng(1), 10, 60, 20)
    whole = true_discovery_bounds(differences, {"planted": range(20)})
    monkeypatch.setattr(resampling, "_CHUNK_BYTES", 7 * 8 * 60)
    parts = true_discovery_bounds(differences, {"planted": range(20)})
    assert parts.at_least == whole.at_least and parts.slope == pytest.approx(whole.slope, rel=1e-9)


def test_a_unit_without_a_t_is_no_discovery():
    differences = planted(np.random.default_rng(2), 10, 20, 20, effect=3)
    differences[:, :5], differences[:, 5] = 0.1, 0
    found = true_discovery_bounds(differences, {"undefined": np.arange(6), "others": np.arange(6, 20)})
    assert found.at_least["undefined"] == 0 and found.at_least["others"] > 5


def test_too_few_flips_say_nothing():
    differences = np.random.default_rng(3).standard_normal((25, 8)) + 9
    bounds = [true_discovery_bounds(differences, {"all": range(8)}, permutations=n).at_least["all"] for n in (19, 20)]
    assert bounds == [0, 8]


def test_seed_decides_and_forms_of_a_set_do_not():
    differences = planted(np.random.default_rng(4), 20, 30, 10, effect=0.6)
    first, again, other = (true_discovery_bounds(differences, {}, seed=seed).slope for seed in (0, 0, 1))
    assert first == again != other
    sets = {"bool": np.arange(30) < 10, "indices": np.arange(10), "twice": [*range(10), *range(10)], "none": []}
    found = true_discovery_bounds(differences, sets).at_least
    assert found["bool"] == found["indices"] == found["twice"] > found["none"] == 0


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"differences": np.ones((1, 3))}, ValueError, "at least 2 pairs"),
        ({"alpha": 0}, ValueError, "alpha: expected a number between 0 and 1, got 0"),
        ({"alpha": 1.0}, ValueError, "alpha: expected a number between 0 and 1"),
        ({"permutations": 0}, ValueError, "permutations: expected at least 1, got 0"),
        ({"sets": {"a": [True, False]}}, ValueError, "sets: 'a': expected a bool array of shape .3,. or indices"),
        ({"sets": {"a": [0.5]}}, ValueError, "sets: 'a': .*got float64"),
        ({"sets": {"a": [0, 3]}}, IndexError, "sets: 'a': expected indices from 0 to 2, got 0 to 3"),
        ({"sets": {"a": [-1]}}, IndexError, "sets: 'a': expected indices from 0 to 2, got -1 to -1"),
    ],
)
def test_bad_input(changed, error, message):
    with pytest.raises(error, match=message):
        true_discovery_bounds(**({"differences": np.eye(4)[:, :3], "sets": {}} | changed))

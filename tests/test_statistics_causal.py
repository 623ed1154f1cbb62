"""What patching recovers: exact under exchanged labels, by brute force, and on data of known truth."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit
from scipy.stats import kstest

from fixtures.statistics.causal import (
    FLIPS,
    SMALLEST_MOVE,
    flipped,
    growth,
    more_than_random,
    moved,
    moved_more,
    recovered,
)
from fixtures.statistics.causal_roles import (
    LEAST_PAIRS,
    NEAREST,
    matched_sets,
    responding,
    roles,
    strongest,
    unit_effects,
)

NUMBERS = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))
SEEDS = st.integers(0, 2**31)


# roles


@given(st.integers(LEAST_PAIRS, 60), SEEDS)
def test_roles_are_disjoint_use_every_pair_and_follow_from_the_seed(n_pairs, seed):
    split, again = roles(n_pairs, seed), roles(n_pairs, seed)
    parts = [split.selection, split.donors, split.recipients]
    assert sorted(np.concatenate(parts).tolist()) == list(range(n_pairs))
    assert len(split.donors) == len(split.recipients) == n_pairs // 3 <= len(split.selection) <= n_pairs // 3 + 2
    for one, other in zip(parts, (again.selection, again.donors, again.recipients), strict=True):
        assert one.tolist() == other.tolist()


def test_roles_of_25_pairs_and_of_too_few():
    assert [len(part) for part in vars(roles(25, 0)).values()] == [9, 8, 8]
    assert roles(25, 0).donors.tolist() != roles(25, 1).donors.tolist()
    with pytest.raises(ValueError, match=f"{LEAST_PAIRS - 1} pairs, at least {LEAST_PAIRS}"):
        roles(LEAST_PAIRS - 1, 0)
    assert 2.0 ** -len(roles(LEAST_PAIRS, 0).donors) <= 0.05  # the smallest p there is


def test_every_pair_has_every_role_as_often():
    drawn = [roles(24, seed) for seed in range(3000)]
    for part in ("selection", "donors", "recipients"):
        counts = np.bincount(np.concatenate([getattr(one, part) for one in drawn]), minlength=24)
        assert np.abs(counts / 3000 - 1 / 3).max() < 0.04


@given(st.integers(LEAST_PAIRS, 40), SEEDS, st.integers(1, 20))
def test_every_donor_gives_and_every_recipient_is_given_as_often(n_pairs, seed, each):
    split = roles(n_pairs, seed)
    jobs, number = split.jobs(each), len(split.donors)
    assert len(set(jobs)) == len(jobs) == number * min(each, number)
    for side, members in enumerate((split.donors, split.recipients)):
        counts = {member: 0 for member in members.tolist()}
        for job in jobs:
            counts[job[side]] += 1
        assert set(counts.values()) == {min(each, number)}
    assert split.jobs(1) == jobs[:number]  # one recipient for each donor is the start of two for each


# units


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(1, 4), SEEDS)
def test_unit_effects_are_mean_products_of_two_different_pairs(n_pairs, n_units, seed):
    ratios = np.random.default_rng(seed).normal(size=(n_pairs, n_units))
    expected = [
        np.mean([ratios[i, unit] * ratios[j, unit] for i in range(n_pairs) for j in range(n_pairs) if i != j])
        for unit in range(n_units)
    ]
    np.testing.assert_allclose(unit_effects(ratios), expected, rtol=1e-9, atol=1e-12)


def test_unit_effects_are_unbiased():
    rng = np.random.default_rng(0)
    for mean in (0.0, 0.5):
        found = unit_effects(mean + rng.normal(size=(9, 200_000)))
        assert found.mean() == pytest.approx(mean**2, abs=0.005)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        unit_effects(np.ones((1, 3)))


def test_what_responds_and_writes_counts():
    scores = responding([0.04, -0.1, 0.04, 0.09], [2.0, 5.0, 0.0, 1.0])
    np.testing.assert_allclose(scores, [0.4, 0.0, 0.0, 0.3])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.floats(0.01, 1))
def test_strongest_are_those_with_the_largest_scores(scores, share):
    chosen = strongest(scores, share)
    number = max(1, round(share * len(scores)))
    expected = sorted(range(len(scores)), key=lambda unit: (-scores[unit], unit))[:number]
    assert np.flatnonzero(chosen).tolist() == sorted(unit for unit in expected if scores[unit] > 0)


# random sets


@st.composite
def placed_units(draw):
    n_units = draw(st.integers(2, 40))
    generator = np.random.default_rng(draw(SEEDS))
    found = generator.random(n_units) < draw(st.sampled_from([0.1, 0.3, 0.7]))
    return found, generator.choice(["a", "b", "c"], n_units), np.exp(generator.normal(size=n_units)), draw(SEEDS)


@given(placed_units())
def test_random_sets_are_other_units_of_the_same_strata(units):
    found, strata, sizes, seed = units
    sets = matched_sets(found, strata, sizes, 5, seed)
    assert sets.shape == (5, len(found)) and not (sets & found).any()
    for chosen in sets:
        for stratum in np.unique(strata):
            inside = strata == stratum
            possible = min((found & inside).sum(), (~found & inside).sum())
            assert (chosen & inside).sum() == possible
    assert np.array_equal(sets, matched_sets(found, strata, sizes, 5, seed))


@given(placed_units())
def test_a_single_found_unit_is_matched_by_one_of_the_nearest_in_size(units):
    _, strata, sizes, seed = units
    for unit in range(min(3, len(sizes))):
        found = np.arange(len(sizes)) == unit
        near = sorted(
            (other for other in range(len(sizes)) if strata[other] == strata[unit] and other != unit),
            key=lambda other: abs(np.log(sizes[other] / sizes[unit])),
        )[:NEAREST]
        drawn = {
            int(place) for chosen in matched_sets(found, strata, sizes, 60, seed) for place in np.flatnonzero(chosen)
        }
        assert drawn <= set(near) and (len(drawn) > 1 or len(near) < 2)


def test_random_sets_write_about_as_much():
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.normal(size=2000))
    found = np.zeros(2000, dtype=bool)
    found[rng.choice(2000, 250, replace=False, p=sizes / sizes.sum())] = True  # those that write more
    sets = matched_sets(found, rng.choice(["a", "b"], 2000), sizes, 20, 0)
    written = sets @ sizes / sizes[found].sum()
    assert np.abs(np.log(written)).max() < 0.2  # the largest have no equals
    assert len({chosen.tobytes() for chosen in sets}) == 20


def test_units_that_write_nothing_can_be_matched():
    sets = matched_sets([True, True, False, False, False], ["a"] * 5, np.zeros(5), 4, 0)
    assert (sets.sum(axis=1) == 2).all()


# what is recovered


@st.composite
def jobs_and_products(draw):
    n = draw(st.integers(3, 6))
    each = draw(st.integers(1, 2))
    jobs = [(donor, 100 + (donor + step) % n) for step in range(each) for donor in range(n)]
    generator = np.random.default_rng(draw(SEEDS))
    along = generator.normal(size=len(jobs)) + draw(st.sampled_from([0.0, 1.0]))
    wanted, whole = generator.uniform(1, 2, size=(2, len(jobs)))
    return along, wanted, whole, jobs


@settings(deadline=None)
@given(jobs_and_products())
def test_recovered_is_a_ratio_of_sums_with_the_jackknife_over_recipients_and_all_flips_of_donors(data):
    along, wanted, whole, jobs = data
    found = recovered(along, wanted, whole, jobs, 0)
    assert found.share == pytest.approx(along.sum() / wanted.sum())
    assert found.moved == pytest.approx(along.sum() / np.sqrt(wanted.sum() * whole.sum()))

    recipients = sorted({recipient for _, recipient in jobs})
    without = []
    for recipient in recipients:
        kept = [number for number, job in enumerate(jobs) if job[1] != recipient]
        without.append(sum(along[kept]) / sum(wanted[kept]))
    n = len(recipients)
    error = np.sqrt((n - 1) / n * sum((value - np.mean(without)) ** 2 for value in without))
    reach = stdtrit(n - 1, 0.975) * error
    assert (found.low, found.high) == pytest.approx((found.share - reach, found.share + reach))

    donors = sorted({donor for donor, _ in jobs})
    sums = []
    for signs in product((1, -1), repeat=len(donors)):
        of_donor = dict(zip(donors, signs, strict=True))
        sums.append(sum(of_donor[job[0]] * value for job, value in zip(jobs, along, strict=True)))
    assert found.flips == len(sums) == 2 ** len(donors)
    assert found.p == pytest.approx(np.mean(np.array(sums) >= along.sum() - 1e-9))


def test_recovered_of_two_recipients_has_no_interval_and_wants_one_entry_a_job():
    found = recovered([1.0, 1.0], [2.0, 2.0], [4.0, 4.0], [(0, 2), (1, 3)], 0)
    assert (found.share, found.low, found.high, found.p) == (0.5, -np.inf, np.inf, 0.25)
    with pytest.raises(ValueError, match="one for each of 2 jobs"):
        recovered([1.0], [2.0, 2.0], [4.0, 4.0], [(0, 2), (1, 3)], 0)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=2, max_size=8))
def test_p_is_the_share_of_all_flips(values):
    found, flips = flipped(values, 0)
    if not any(values):
        assert (found, flips) == (1.0, 1)
        return
    sums = np.array([np.dot(signs, values) for signs in product((1, -1), repeat=len(values))])
    assert flips == len(sums)
    assert found == pytest.approx(np.mean(sums >= np.sum(values) - 1e-9 * np.abs(values).sum()))


def test_many_donors_are_flipped_at_random_and_the_seed_decides():
    values = np.random.default_rng(0).normal(size=20) + 0.3
    found, flips = flipped(values, 1)
    assert flips == FLIPS and flipped(values, 1) == (found, flips) and 1 / FLIPS <= found < 1
    exact = np.mean(np.array([1, -1])[np.random.default_rng(5).integers(0, 2, (200_000, 20))] @ values >= values.sum())
    assert found == pytest.approx(exact, abs=0.01)
    assert flipped(np.full(20, 1.0), 0)[0] == pytest.approx(1 / FLIPS)
    assert flipped([3.0], 0) == (1.0, 1)


def test_p_is_valid_without_an_effect():
    rng = np.random.default_rng(0)
    p = np.array([flipped(rng.standard_t(2, size=8), 0)[0] for _ in range(400)])
    assert kstest(p, "uniform").pvalue > 0.01 and np.mean(p <= 0.05) < 0.09


def test_moved_is_in_units_of_the_output():
    """All of a contrast whose size is a tenth of the output's moves it by a tenth; nothing by nothing."""
    wanted, whole = np.full(4, 1.0), np.full(4, 100.0)
    assert moved(wanted, wanted, whole) == pytest.approx(0.1) and moved(-wanted, wanted, whole) == pytest.approx(-0.1)
    assert moved(np.zeros(4), np.zeros(4), whole) == 0


# beside random units


@given(st.lists(st.tuples(NUMBERS, st.floats(0.1, 10)), min_size=2, max_size=20))
def test_more_than_random_counts_sets_that_move_as_much_for_what_they_write(sets):
    along, sizes = np.array(sets).T
    per_written, p = more_than_random(along, sizes)
    np.testing.assert_allclose(per_written, along / sizes)
    reach = sum(value >= per_written[0] for value in per_written[1:])
    assert p == pytest.approx((1 + reach) / len(sets))


def test_more_than_random_is_uniform_where_the_found_set_is_one_of_them():
    rng = np.random.default_rng(0)
    p = []
    for _ in range(2000):
        sizes = np.exp(rng.normal(size=20))
        p.append(more_than_random(sizes * rng.normal(0.1, 1, size=20), sizes)[1])
    counts = np.bincount(np.round(20 * np.array(p)).astype(int), minlength=21)[1:]
    assert np.abs(counts / 2000 - 0.05).max() < 0.02


def test_a_set_that_writes_nothing_moves_nothing_and_arrays_must_fit():
    per_written, p = more_than_random([0.5, 0.0, 0.1], [1.0, 0.0, 1.0])
    assert per_written.tolist() == [0.5, 0.0, 0.1] and p == pytest.approx(1 / 3)
    for along, sizes in (([1.0], [1.0]), ([1.0, 2.0], [1.0])):
        with pytest.raises(ValueError, match="two arrays of two sets or more"):
            more_than_random(along, sizes)


# beside untrained twins


def network(rng, size, jobs=8, spread=0.05):
    """Products of a network whose output is moved by this share of its size."""
    wanted, whole = np.full(jobs, 1.0), np.full(jobs, 1.0)
    return size * np.exp(spread * rng.standard_normal(jobs)), wanted, whole


def test_equal_networks_move_as_far():
    """The ratio is about 1, and its p rarely small."""
    rng = np.random.default_rng(0)
    found = [
        moved_more([network(rng, 0.05 * np.exp(0.3 * rng.standard_normal())) for _ in range(7)]) for _ in range(300)
    ]
    ratios, p = (np.array([getattr(one, name) for one in found]) for name in ("ratio", "p"))
    assert np.median(ratios) == pytest.approx(1, abs=0.08) and np.mean(p <= 0.05) < 0.09
    assert np.mean([one.low <= 1 <= one.high for one in found]) > 0.9


def test_a_network_that_moves_further_is_told_from_its_twins():
    rng = np.random.default_rng(0)
    twins = [network(rng, size) for size in (0.010, 0.011, 0.012, 0.010, 0.011, 0.012)]
    own = network(rng, 0.1)
    found = moved_more([own, *twins])
    floor = SMALLEST_MOVE
    logs = [0.5 * np.log(moved(*one) ** 2 + floor**2) for one in (own, *twins)]
    assert found.ratio == pytest.approx(np.exp(logs[0] - np.mean(logs[1:]))) and found.p < 0.001
    assert found.low > 1.25


def test_moves_below_the_floor_or_the_wrong_way_are_none():
    rng = np.random.default_rng(0)
    nothing = [network(rng, size) for size in (1e-5, 1e-7, 1e-6, 1e-7, 1e-7, 1e-6, 1e-7)]
    assert moved_more(nothing).ratio == pytest.approx(1, abs=1e-3)
    back = network(rng, -0.5)
    assert moved_more([back, *nothing[1:]]).ratio == pytest.approx(1, abs=1e-3)


# doses

DOSES = (0.25, 0.5, 0.75, 1.0)


def curve(rng, means, donors=8, noise=0.02):
    return np.array(means) + noise * rng.standard_normal((donors, len(means)))


def test_growing_flat_and_falling_curves():
    rng = np.random.default_rng(0)
    wanted = np.ones(8)
    growing = growth(curve(rng, [0.2, 0.4, 0.6, 0.8]), wanted, DOSES, 0)
    assert growing.trend_p == 2**-8 and growing.falls_p == 1.0 and growing.area == pytest.approx(0.5, abs=0.02)
    falling = growth(curve(rng, [0.8, 0.6, 0.4, 0.2]), wanted, DOSES, 0)
    assert falling.trend_p == 1.0 and falling.falls_p == pytest.approx(3 * 2**-8)
    back = growth(curve(rng, [0.1, 0.9, 0.5, 0.9]), wanted, DOSES, 0)
    assert back.trend_p <= 0.05 and back.falls_p <= 0.05  # grows, and falls once beyond chance


def test_a_flat_curve_rarely_grows_or_falls():
    rng = np.random.default_rng(1)
    found = [growth(curve(rng, [0.5] * 4), np.ones(8), DOSES, 0) for _ in range(300)]
    assert np.mean([one.trend_p <= 0.05 for one in found]) < 0.09
    assert np.mean([one.falls_p <= 0.05 for one in found]) < 0.09


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(2, 4), SEEDS)
def test_growth_by_brute_force(donors, n_doses, seed):
    rng = np.random.default_rng(seed)
    along, wanted = rng.normal(size=(donors, n_doses)), rng.uniform(1, 2, donors)
    doses = np.cumsum(rng.uniform(0.1, 1, n_doses))
    found = growth(along, wanted, doses, 0)

    def p_of(values):
        sums = np.array([np.dot(signs, values) for signs in product((1, -1), repeat=donors)])
        return np.mean(sums >= sum(values) - 1e-9)

    ranks = np.arange(n_doses) - np.mean(np.arange(n_doses))
    assert found.trend_p == pytest.approx(p_of([np.dot(row, ranks) for row in along]))
    falls = [p_of(along[:, step] - along[:, step + 1]) for step in range(n_doses - 1)]
    assert found.falls_p == pytest.approx(min(1, (n_doses - 1) * min(falls)))
    shares = along.sum(axis=0) / wanted.sum()
    steps = [(shares[k] + shares[k + 1]) / 2 * (doses[k + 1] - doses[k]) for k in range(n_doses - 1)]
    assert found.area == pytest.approx(sum(steps) / (doses[-1] - doses[0]))


def test_doses_must_be_ascending_and_two_or_more():
    for along, doses in ((np.ones((3, 2)), (1.0, 1.0)), (np.ones((3, 1)), (1.0,)), (np.ones((3, 2)), (1.0, 2.0, 3.0))):
        with pytest.raises(ValueError, match="two ascending doses or more"):
            growth(along, np.ones(3), doses, 0)

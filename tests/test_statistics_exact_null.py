"""The exact null of the counts against enumeration, in rational arithmetic where ties decide."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fixtures.statistics.kernels import exact_flips, walk_bounds
from fixtures.statistics.kernels.unit_groups import group_units
from fixtures.statistics.paired_t import paired_t
from fixtures.statistics.random_flips import evaluate
from fixtures.statistics.sign_flips import sign_flip_null
from fixtures.statistics.signed_sums import sum_bound, unit_vectors

quick = settings(max_examples=25, deadline=None, derandomize=True)
small_integers = arrays(np.int64, st.tuples(st.integers(2, 12), st.integers(1, 8)), elements=st.integers(-3, 3))


def all_signs(n_pairs):
    """Array, shape (2**(n_pairs - 1), n_pairs); the first sign is +, the first flip the identity."""
    return np.array([(1, *rest) for rest in product((1, -1), repeat=n_pairs - 1)])


def direct_counts(differences, threshold):
    """Counts of all flips from the t formula itself; a tie with the threshold is not above it."""
    flipped = (paired_t(signs[:, None] * differences) for signs in all_signs(len(differences)))
    return np.array([np.count_nonzero(np.abs(t) > threshold * (1 + 1e-9)) for t in flipped])


def rational_counts(differences, threshold):
    """Counts of all flips of integer differences, without rounding: t**2 = (n - 1) S**2 / (n Q - S**2)."""
    n_pairs = len(differences)
    squares = (all_signs(n_pairs) @ differences) ** 2
    spread = n_pairs * np.square(differences).sum(axis=0) - squares
    # (n - 1) S**2 is a whole number, so it exceeds c**2 * spread when it exceeds its floor.
    bound = np.array([[int(Fraction(threshold) ** 2 * int(value) // 1) for value in row] for row in spread])
    return (((n_pairs - 1) * squares > bound) & (spread > 0)).sum(axis=1)


def assert_counts(null, per_flip):
    counts, flips = np.unique(per_flip, return_counts=True)
    assert null.null_counts.tolist() == counts.tolist()
    assert null.null_flips.tolist() == flips.tolist()
    assert null.flips == per_flip.size
    assert null.observed == per_flip[0]
    assert null.p == np.mean(per_flip >= per_flip[0])
    assert null.mean == pytest.approx(per_flip.mean())
    assert null.max == per_flip.max()
    for q in (0, 0.01, 0.5, 0.99, 1):
        assert null.quantile(q) == np.quantile(per_flip, q, method="inverted_cdf")
    assert null.p99 == null.quantile(0.99)


def assert_same_null(a, b):
    for x, y in zip(a.counts, b.counts, strict=True):
        assert x.observed == y.observed
        assert x.null_counts.tolist() == y.null_counts.tolist()
        assert x.null_flips.tolist() == y.null_flips.tolist()
    np.testing.assert_allclose(a.max_abs_t.upper_tail, b.max_abs_t.upper_tail, rtol=1e-9)
    assert a.max_abs_t.observed == pytest.approx(b.max_abs_t.observed, nan_ok=True)


def test_continuous_data_with_odd_units():
    rng = np.random.default_rng(0)
    differences = rng.standard_normal((12, 1)) + 0.5 * rng.standard_normal((12, 40))
    differences[:, 3] = 0
    differences[:, 7] = 0.1
    differences[:, 8] = 0.7 * rng.choice((-1, 1), 12)
    differences[1:, 9] = 0
    null = sign_flip_null(differences, thresholds=(1, 3, 5))
    assert null.method == "exact" and null.seed is None and null.flips == 2**11
    assert null.undefined.nonzero()[0].tolist() == [7]
    for count in null.counts:
        assert_counts(count, direct_counts(differences, count.threshold))


@quick
@given(small_integers, st.sampled_from([(3, 5), (1, 2), (0.5, Fraction(3, 2)), (5,)]))
def test_integer_data_against_rational_arithmetic(differences, thresholds):
    null = sign_flip_null(differences, thresholds)
    for count, threshold in zip(null.counts, thresholds, strict=True):
        assert_counts(count, rational_counts(differences, threshold))


@pytest.mark.parametrize("seed", range(4))
def test_twelve_integer_pairs_against_rational_arithmetic(seed):
    differences = np.random.default_rng(seed).integers(-2, 3, (12, 60))
    differences[:, 0], differences[:, 1], differences[:, 2] = 0, 2, np.where(np.arange(12) % 3, 1, -1)
    null = sign_flip_null(differences, (3, 5))
    assert_counts(null.counts[0], rational_counts(differences, 3))
    assert_counts(null.counts[1], rational_counts(differences, 5))


@pytest.mark.parametrize("scale", [1, 0.1, 1 / 3, 1e-200, 7e200])
def test_t_of_exactly_three_does_not_count(scale):
    tie = np.array([2, 2, 2, 2, 1, 1, 1, -1, 0, 0])
    assert paired_t(tie[:, None])[0] == pytest.approx(3)
    differences = np.tile(tie[:, None] * scale, 5)
    assert_counts(sign_flip_null(differences, (3,)).counts[0], rational_counts(np.tile(tie[:, None], 5), 3))
    assert sign_flip_null(differences, (3,)).counts[0].observed == 0
    assert sign_flip_null(differences, (2.999,)).counts[0].observed == 5


def test_a_flip_without_variance_never_counts():
    differences = np.outer([1, -1, 1, 1, -1, -1, 1], [1.0, 0.1, 1 / 3])
    null = sign_flip_null(differences, (1e-3, 1e4))
    assert_counts(null.counts[0], rational_counts(np.rint(differences / differences[0]).astype(int), 1e-3))
    assert null.counts[1].max == 0
    assert np.isfinite(null.max_abs_t.upper_tail).all()
    constant = sign_flip_null(np.ones((7, 2)), (3,))
    assert constant.counts[0].observed == 0 and constant.undefined.all()
    assert np.isnan(constant.max_abs_t.observed)


def test_all_units_zero():
    null = sign_flip_null(np.zeros((6, 3)))
    assert [count.p for count in null.counts] == [1, 1]
    assert null.max_abs_t.adjusted_p.tolist() == [1, 1, 1]
    assert null.max_abs_t.bin_flips.sum() == 32


@quick
@given(small_integers, st.integers(0, 2**32 - 1))
def test_symmetries(differences, seed):
    rng = np.random.default_rng(seed)
    n_pairs, n_units = differences.shape
    null = sign_flip_null(differences)
    assert_same_null(null, sign_flip_null(-differences))
    assert_same_null(null, sign_flip_null(differences[rng.permutation(n_pairs)]))
    assert_same_null(null, sign_flip_null(differences[:, rng.permutation(n_units)]))
    assert_same_null(null, sign_flip_null(differences * np.exp(rng.normal(0, 5, n_units))))
    assert_same_null(null, sign_flip_null(differences * rng.choice((-1, 1), n_units)))


@quick
@given(small_integers, st.sampled_from(["exact", "monte-carlo", "published"]))
def test_counts_are_the_same_without_the_maximum(differences, method):
    whole = sign_flip_null(differences, (1, 3), method, permutations=50)
    counts = sign_flip_null(differences, (1, 3), method, permutations=50, maximum=False)
    assert counts.max_abs_t is None and (counts.method, counts.flips) == (whole.method, whole.flips)
    for one, other in zip(counts.counts, whole.counts, strict=True):
        assert (one.observed, one.flips, one.p) == (other.observed, other.flips, other.p)
        assert one.null_counts.tolist() == other.null_counts.tolist()
        assert one.null_flips.tolist() == other.null_flips.tolist()


@quick
@given(st.integers(2, 10), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_flipping_the_data_moves_the_observed_count_within_one_null(n_pairs, n_units, seed):
    rng = np.random.default_rng(seed)
    differences = rng.standard_normal((n_pairs, n_units)) + rng.standard_normal((n_pairs, 1))
    flipped = differences * rng.choice((-1, 1), (n_pairs, 1))
    a, b = sign_flip_null(differences, (2,)).counts[0], sign_flip_null(flipped, (2,)).counts[0]
    assert a.null_counts.tolist() == b.null_counts.tolist()
    assert a.null_flips.tolist() == b.null_flips.tolist()


def test_thresholds_do_not_influence_each_other():
    differences = np.random.default_rng(3).integers(-4, 5, (11, 50))
    together = sign_flip_null(differences, (5, 1, 3))
    assert [count.threshold for count in together.counts] == [5, 1, 3]
    for count in together.counts:
        alone = sign_flip_null(differences, (count.threshold,)).counts[0]
        assert alone.null_counts.tolist() == count.null_counts.tolist()
        assert alone.null_flips.tolist() == count.null_flips.tolist()
        assert alone.p == count.p


def force_plan(monkeypatch, bound, by_groups):
    monkeypatch.setattr(
        walk_bounds, "cheapest_plan", lambda maxima, *_: walk_bounds.Plan(np.full(len(maxima), bound), by_groups)
    )


@pytest.mark.parametrize("t_bound", [0.0, 1.0, 2.5, 4.0, np.inf, None, "groups"])
@pytest.mark.parametrize("kind", ["continuous", "integers", "repeated", "signs"])
def test_plans_and_chunks_change_nothing(monkeypatch, t_bound, kind):
    rng = np.random.default_rng(4)
    differences = rng.standard_normal((13, 137))
    if kind == "integers":
        differences = rng.integers(-3, 4, (13, 137))
    if kind == "repeated":
        differences[:, 100:] = -2 * differences[:, 90:127]
    if kind == "signs":
        differences[:, :50] = rng.choice((-1, 1), (13, 50))
    force_plan(monkeypatch, np.inf, by_groups=False)
    expected = sign_flip_null(differences)
    monkeypatch.undo()
    if t_bound == "groups":
        force_plan(monkeypatch, np.inf, by_groups=True)
    elif t_bound is not None:
        force_plan(monkeypatch, t_bound / np.sqrt(12 + t_bound**2) if t_bound < np.inf else np.inf, by_groups=False)
    monkeypatch.setattr(exact_flips, "_WALK_UNITS", 7)
    monkeypatch.setattr(exact_flips, "_MAX_RIGHT", 5)
    monkeypatch.setattr(exact_flips, "_GROUP_PAIRS", 3)
    actual = sign_flip_null(differences)
    assert_same_null(actual, expected)
    assert actual.max_abs_t.adjusted_p.tolist() == expected.max_abs_t.adjusted_p.tolist()
    assert actual.max_abs_t.bin_flips.sum() == 2**12


@quick
@given(small_integers, st.sampled_from([(3, 5), (0.5, 1, 2)]))
def test_counts_by_groups_against_rational_arithmetic(differences, thresholds):
    with pytest.MonkeyPatch.context() as patch:
        force_plan(patch, np.inf, by_groups=True)
        null = sign_flip_null(differences, thresholds)
    for count, threshold in zip(null.counts, thresholds, strict=True):
        assert_counts(count, rational_counts(differences, threshold))


@quick
@given(st.integers(2, 9), st.integers(1, 300), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_groups_hold_every_unit_once_up_to_its_sign(n_pairs, n_units, size, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n_pairs, n_units))
    repeated = vectors[:, rng.integers(0, n_units, n_units)] * rng.choice((-1, 1), n_units)
    grouped = group_units(np.hstack([vectors, repeated]), size)
    assert len(grouped) == -(-n_units // size) * size and not grouped[n_units:].any()

    def canonical(units):
        units = units * np.sign(units[:, :1])
        return units[np.lexsort(units.T)]

    np.testing.assert_array_equal(canonical(grouped[:n_units]), canonical(vectors.T))


def test_units_of_two_directions_are_parted():
    rng = np.random.default_rng(9)
    centres = np.array([[1, 1], [0.5, -0.5], [0, 0]])
    belongs = rng.permutation(np.repeat([0, 1], 64))
    vectors = (centres[:, belongs] + 0.01 * rng.standard_normal((3, 128))) * rng.choice((-1, 1), 128)
    nearest = np.abs(group_units(vectors, 64) @ centres).argmax(axis=1)
    assert (nearest[:64] == nearest[0]).all() and (nearest[64:] == 1 - nearest[0]).all()


def signs_of(flips, n_left, n_right):
    """Signs behind positions in the tables, shape (n_flips, n_left + n_right)."""
    rows, columns = flips[:, None] >> n_right, flips[:, None] & (1 << n_right) - 1
    bits = np.hstack([rows * 2 >> np.arange(n_left) & 1, columns >> np.arange(n_right) & 1])
    return 1.0 - 2.0 * bits


@pytest.mark.parametrize("by_groups", [False, True])
def test_the_screen_does_not_blur(monkeypatch, by_groups):
    """Units that differ by less than 16 bits resolve."""
    rng = np.random.default_rng(7)
    vectors = unit_vectors(rng.standard_normal((11, 1)) * (1 + 1e-6 * rng.standard_normal((11, 60))))
    force_plan(monkeypatch, np.inf, by_groups)
    signs = signs_of(np.arange(2**10), 6, 5)
    bounds = np.median(np.abs(signs @ vectors), axis=1)[[5, 70]]
    tables = exact_flips.exact_tables(vectors, bounds)
    counts, maxima = evaluate(vectors, signs, bounds)
    assert (tables.counts.transpose(1, 0, 2).reshape(2, -1) == counts).all()
    assert 0 < counts[0][5] < 60
    np.testing.assert_allclose(tables.maxima, maxima, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("by_groups", [None, True])
@pytest.mark.parametrize("kind", ["independent", "correlated", "integers"])
def test_single_flips_of_25_pairs(monkeypatch, kind, by_groups):
    if by_groups is not None:
        force_plan(monkeypatch, np.inf, by_groups)
    rng = np.random.default_rng(8)
    differences = rng.standard_normal((25, 2500))
    if kind == "correlated":
        differences = 0.5 * differences + rng.standard_normal((25, 3)) @ rng.standard_normal((3, 2500))
    if kind == "integers":
        differences = rng.integers(-2, 3, (25, 2500)).astype(float)
        differences[:, :30] = rng.choice((-1, 1), (25, 30))
    vectors, bounds = unit_vectors(differences), sum_bound((3, 5), 25)
    tables = exact_flips.exact_tables(vectors, bounds)
    flips = np.unique(np.r_[0, rng.integers(0, 2**24, 3000)])
    counts, maxima = evaluate(vectors, signs_of(flips, 13, 12), bounds)
    assert (tables.counts[flips >> 12, :, flips & 4095].T == counts).all()
    np.testing.assert_allclose(tables.maxima[flips], maxima, rtol=1e-12)


def test_more_units_than_sixteen_bits_count():
    differences = np.repeat(np.random.default_rng(5).standard_normal((5, 1)), 70_000, axis=1)
    null = sign_flip_null(differences, (1e-6,))
    assert null.counts[0].null_counts.tolist() == [70_000]


def test_a_pair_of_zeros_gives_every_flip_a_twin():
    """25 pairs, split 13 and 12, against 24, split 12 and 12: the sums are the same, only t's scale changes."""
    rng = np.random.default_rng(6)
    differences = rng.standard_normal((24, 3)) @ rng.standard_normal((3, 200)) + rng.standard_normal((24, 200))
    square = np.array([3.0, 5.0]) ** 2
    ratio = 24 * square / (23 + square)  # S**2 / Q at the threshold
    thresholds = tuple(np.sqrt(24 * ratio / (25 - ratio)))
    shorter = sign_flip_null(differences)
    longer = sign_flip_null(np.vstack([differences, np.zeros(200)]), thresholds)
    assert (shorter.flips, longer.flips) == (2**23, 2**24)
    assert shorter.counts[0].p99 > 3 * shorter.counts[0].mean
    for a, b in zip(shorter.counts, longer.counts, strict=True):
        assert a.null_counts.tolist() == b.null_counts.tolist()
        assert (2 * a.null_flips).tolist() == b.null_flips.tolist()
    np.testing.assert_allclose(longer.max_abs_t.adjusted_p, shorter.max_abs_t.adjusted_p, rtol=1e-12)
    assert longer.max_abs_t.bin_flips.sum() == 2**24


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"method": "all"}, 'method: expected "exact"'),
        ({"thresholds": ()}, "at least one"),
        ({"thresholds": (3, 0)}, "positive finite numbers, got 0"),
        ({"thresholds": (np.nan,)}, "positive finite"),
        ({"thresholds": (3, 3.0)}, "given once"),
        ({"method": "monte-carlo", "permutations": 0}, "at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        sign_flip_null(np.eye(4), **arguments)


def test_too_many_pairs_are_sent_to_monte_carlo():
    with pytest.raises(ValueError, match='26 pairs.*method="monte-carlo"'):
        sign_flip_null(np.ones((26, 2)))


def test_bad_differences_are_named():
    with pytest.raises(ValueError, match="pair 2, unit 1"):
        sign_flip_null(np.where(np.arange(8).reshape(4, 2) == 5, np.nan, 1.0))


def test_quantile_level_is_checked():
    with pytest.raises(ValueError, match="between 0 and 1"):
        sign_flip_null(np.eye(4)).counts[0].quantile(99)

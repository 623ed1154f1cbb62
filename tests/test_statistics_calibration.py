"""What the p-values promise: validity without an effect, discovery with one."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from fixtures.statistics.sign_flips import sign_flip_null

N_DATA_SETS = 300


def data_without_effect(rng, correlated):
    noise = rng.standard_normal((10, 40))
    return noise + 1.5 * rng.standard_normal((10, 2)) @ rng.standard_normal((2, 40)) if correlated else noise


@pytest.fixture(scope="module", params=[False, True], ids=["independent", "correlated"])
def p_without_effect(request):
    """p of the counts at |t| > 2 and 3 and of max |t|, for data sets in which A and B are exchangeable."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(N_DATA_SETS):
        null = sign_flip_null(data_without_effect(rng, request.param), (2, 3))
        rows.append([*(count.p for count in null.counts), null.max_abs_t.adjusted_p.min()])
    return np.array(rows)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.25, 0.5])
def test_false_positives_stay_below_alpha(p_without_effect, alpha):
    """Counts are discrete, so their p-values are valid rather than uniform."""
    limit = stats.binom.ppf(0.9995, N_DATA_SETS, alpha)
    assert ((p_without_effect <= alpha).sum(axis=0) <= limit).all()


def test_p_of_max_t_is_uniform(p_without_effect):
    assert stats.kstest(p_without_effect[:, 2], "uniform").pvalue > 0.005


def test_counts_are_not_merely_conservative(p_without_effect):
    assert (p_without_effect[:, 0] <= 0.25).sum() >= stats.binom.ppf(0.0005, N_DATA_SETS, 0.15)


def test_no_p_is_zero(p_without_effect):
    assert p_without_effect.min() >= 1 / 2**9 and p_without_effect.max() <= 1


def test_a_planted_shift_is_found_in_its_units_and_nowhere_else():
    rng = np.random.default_rng(1)
    differences = rng.standard_normal((18, 300))
    planted = rng.choice(300, 12, replace=False)
    differences[:, planted] += 2.5 * rng.choice((-1, 1), 12)
    null = sign_flip_null(differences)
    found = np.flatnonzero(null.max_abs_t.adjusted_p <= 0.05)
    assert found.tolist() == sorted(planted.tolist())
    assert null.counts[1].observed == 12
    # With 12 of 300 units shifted, only few other flips keep 12 units beyond 5.
    assert 1 / 2**17 <= null.counts[1].p < 0.001


def test_the_largest_effect_has_the_smallest_p_there_is():
    differences = 100 + np.random.default_rng(2).standard_normal((14, 30))
    null = sign_flip_null(differences, (50,))
    assert null.counts[0].observed == 30
    assert null.counts[0].p == 1 / 2**13
    assert (null.max_abs_t.adjusted_p >= 1 / 2**13).all()
    assert null.max_abs_t.adjusted_p.min() == 1 / 2**13


@pytest.mark.slow
@pytest.mark.parametrize("correlated", [False, True])
def test_full_size_null_stays_below_one_gigabyte(correlated):
    """25 pairs and the 16,320 published units; memory is measured in a fresh process."""
    code = f"""
import resource
import numpy as np
from fixtures.statistics.sign_flips import sign_flip_null
rng = np.random.default_rng(0)
noise = rng.standard_normal((25, 16_320))
if {correlated}:
    noise = 0.7 * noise + rng.standard_normal((25, 4)) @ rng.standard_normal((4, 16_320))
sign_flip_null(noise[:6, :9])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
null = sign_flip_null(noise)
assert null.flips == 2**24 and null.max_abs_t.bin_flips.sum() == 2**24
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 2**20

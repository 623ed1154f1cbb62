"""How nulls are computed: the plan's arguments, and what happens where the GPU cannot."""

import numpy as np
import pytest

from fixtures.statistics import null_plan
from fixtures.statistics.null_plan import NullPlan
from fixtures.statistics.sign_flips import sign_flip_null

DIFFERENCES = np.random.default_rng(0).standard_normal((12, 30))


@pytest.mark.parametrize("method", ["exact", "monte-carlo", "published"])
def test_a_plan_is_the_null_of_its_arguments(method):
    found = NullPlan(method, 300, 7).null(DIFFERENCES, [2.0, 3.0])
    expected = sign_flip_null(DIFFERENCES, (2.0, 3.0), method, 300, 7)
    assert (found.method, found.flips, found.seed) == (expected.method, expected.flips, expected.seed)
    for one, other in zip(found.counts, expected.counts, strict=True):
        assert one.p == other.p and np.array_equal(one.null_flips, other.null_flips)


@pytest.mark.parametrize(("limit", "method"), [(25, "exact"), (11, "monte-carlo")])
def test_a_gpu_that_fails_leaves_the_null_to_the_cpu(monkeypatch, limit, method):
    asked = []

    def failing(differences, thresholds, method, permutations, seed, device=None, maximum=True):
        asked.append(device)
        if device:
            raise RuntimeError("no triton")
        return sign_flip_null(differences, thresholds, method, permutations, seed)

    monkeypatch.setattr(null_plan, "sign_flip_null", failing)
    monkeypatch.setattr(null_plan, "MAX_EXACT_PAIRS", limit)
    found = NullPlan("exact", 300, 0, device="cuda").null(DIFFERENCES, (2.0,))
    assert asked == ["cuda", None]
    assert found.method == method


def test_a_plan_asks_for_the_maximum_or_not():
    assert NullPlan().null(DIFFERENCES, (2.0,)).max_abs_t is not None
    assert NullPlan().null(DIFFERENCES, (2.0,), maximum=False).max_abs_t is None


def test_other_methods_never_ask_the_gpu():
    assert NullPlan("published", 200, 0, device="cuda").null(DIFFERENCES, (2.0,)).method == "published"

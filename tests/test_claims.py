import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.claims.claims import USUAL, Amplification, Effect, Exceedance, Share, SplitHalf, primary
from fixtures.claims.hypothesis import Hypothesis, Published, PublishedCount
from fixtures.claims.ladder import CONTROLS
from fixtures.claims.verdict import MINIMUM_PAIRS


def evidence(observed, p99, n_pairs=25, r=0.5):
    null = {"method": "exact", "flips": 16777216, "seed": None, "mean": 1.0, "p99": p99, "max": 400}
    split = {"median": r, "q25": 0.4, "q75": 0.6, "halves": 100, "null": {"p": 0.004}}
    counts = [{"threshold": threshold, "observed": observed, "null": null, "p": 0.001} for threshold in (3.0, 5.0)]
    return {"n_pairs": n_pairs, "n_units": 16320, "counts": counts, "split_half_r": split}


@given(
    observed=st.integers(0, 16320), p99=st.integers(0, 16320), margin=st.integers(1001, 100_000).map(lambda n: n / 1000)
)
def test_supported_means_margin_times_the_99th_percentile(observed, p99, margin):
    verdict = Exceedance(3.0, margin).judge(evidence(observed, p99))
    assert verdict.supported == (1000 * observed >= round(1000 * margin) * max(p99, 1))
    decidable = round(1000 * margin) * max(p99, 1) <= 1000 * 16320
    assert verdict.outcome == (("supported" if verdict.supported else "refuted") if decidable else "inconclusive")
    assert verdict.figures["ratio"] == observed / max(p99, 1)


def test_the_message_gives_every_figure():
    text = str(Exceedance(3.0, 2.4).judge(evidence(100, 50)))
    assert text == (
        "refuted: 100 units at |t| > 3, null p99 50, ratio 2.00, margin 2.4 (at least 120 units), p = 0.001"
    )


def test_a_null_that_is_mostly_zero_counts_as_one():
    assert not Exceedance(5.0, 26).judge(evidence(25, 0)).supported
    assert Exceedance(5.0, 26).judge(evidence(26, 0)).supported


@given(n_pairs=st.integers(2, 30), observed=st.integers(0, 1000))
def test_few_pairs_are_inconclusive_whatever_the_count(n_pairs, observed):
    outcome = Exceedance(3.0, 1.5).judge(evidence(observed, 10, n_pairs)).outcome
    assert (outcome == "inconclusive") == (n_pairs < MINIMUM_PAIRS)


@given(r=st.floats(-1, 1), required=st.floats(0, 1))
def test_split_half_compares_the_median(r, required):
    assert SplitHalf(required).judge(evidence(1, 1, r=r)).supported == (r >= required)


def test_split_half_gives_its_p():
    verdict = SplitHalf(0.3).judge(evidence(1, 1))
    assert verdict.p == 0.004 and str(verdict).endswith("required 0.3, p = 0.004 under sign flips")


def test_an_undefined_split_half_is_inconclusive():
    assert SplitHalf(0.3).judge(evidence(1, 1) | {"split_half_r": None}).outcome == "inconclusive"
    assert SplitHalf(0.3).judge(evidence(1, 1, r=None)).outcome == "inconclusive"


@pytest.mark.parametrize(("threshold", "margin"), [(0, 2), (-1, 2), (3, 0.5), (3, 1)])
def test_a_claim_that_cannot_fail_properly_is_refused(threshold, margin):
    with pytest.raises(ValueError, match="positive threshold and a margin above 1"):
        Exceedance(threshold, margin)


def test_published_percentages_are_recomputed():
    published = Published(25, 16320, 200, {3.0: PublishedCount(2426, 4.8, 501, 82)}, max_abs_t=7.56)
    assert published.record()["counts"]["3"]["percent"] == 14.9


def test_a_hypothesis_declares_known_controls_or_says_so():
    declared = {"id": "h", "title": "H", "sentence": "s", "contrast": "a minus b", "positive": "a"}
    assert Hypothesis(**declared).controls == CONTROLS and Hypothesis(**declared, controls=()).controls == ()
    with pytest.raises(ValueError, match="h: control 'taste' is not known; expected some of familywise, placebo"):
        Hypothesis(**declared, controls=("placebo", "taste"))


@given(observed=st.integers(0, 16320), required=st.integers(1, 1000).map(lambda n: n / 1000))
def test_a_share_is_of_all_units(observed, required):
    verdict = Share(3.0, required).judge(evidence(observed, 50))
    assert verdict.supported == (1000 * observed >= round(1000 * required) * 16320)
    assert verdict.figures["required"] == required * 16320


@pytest.mark.parametrize(("threshold", "required"), [(0, 0.5), (3, 0), (3, 1.1)])
def test_a_share_of_nothing_is_refused(threshold, required):
    with pytest.raises(ValueError, match="expected a positive threshold and a share"):
        Share(threshold, required)


def test_the_message_of_a_share_gives_both_shares():
    text = str(Share(3.0, 0.215).judge(evidence(1632, 50)))
    assert text == "refuted: 1632 of 16320 units at |t| > 3, 10.0 % (at least 21.5 %), null p99 50, p = 0.001"


@given(st.integers(11, 100), st.integers(1, 160))
def test_a_count_exactly_at_its_requirement_reaches_it_whatever_the_rounding(tenths, p99):
    at = Exceedance(3.0, tenths / 10).judge(evidence(tenths * p99, 10 * p99))
    assert at.supported, at
    assert not Exceedance(3.0, tenths / 10).judge(evidence(tenths * p99 - 1, 10 * p99)).supported
    units = evidence(0, 1)["n_units"]
    share = Share(3.0, p99 / units).judge(evidence(p99, 1))
    assert share.supported, share


def effect_of(percent, p, n_pairs=25):
    return evidence(1, 1, n_pairs) | {"effect": {"percent": percent, "p": p}}


@given(tenths=st.integers(-100, 100), required=st.integers(4, 100), thousandths=st.integers(1, 1000))
def test_an_effect_is_supported_by_its_size_and_its_p(tenths, required, thousandths):
    verdict = Effect(required / 10).judge(effect_of(tenths / 10, thousandths / 1000))
    assert verdict.outcome == ("supported" if tenths >= required and thousandths <= 50 else "refuted")
    assert (verdict.figures["observed"], verdict.p) == (tenths / 10, thousandths / 1000)
    assert verdict.figures["ratio"] == pytest.approx(tenths / required)


def test_an_effect_of_few_pairs_or_of_silent_units_is_inconclusive():
    assert Effect().judge(effect_of(9.0, 0.001, MINIMUM_PAIRS - 1)).outcome == "inconclusive"
    silent = Effect().judge(evidence(1, 1) | {"effect": None})
    assert silent.outcome == "inconclusive" and "silent in one member" in silent.reason and silent.p is None


def test_the_message_of_an_effect_gives_every_figure():
    assert str(Effect(2.0).judge(effect_of(1.234, 0.25))) == "refuted: effect 1.23 % (at least 2 %), p = 0.25"
    assert Effect().percent == 100 * 2**-8 and Effect(2.0).sentence.startswith("Activations of noise tokens move by")


@given(
    hundredths=st.integers(1, 1000),
    margin=st.integers(125, 1000),
    thousandths=st.integers(1, 1000),
    of_effect=st.integers(1, 100),
)
def test_an_amplification_is_supported_by_its_ratio_and_its_p_of_an_effect_that_is_there(
    hundredths, margin, thousandths, of_effect
):
    twins = {"ratio": hundredths / 100, "p": thousandths / 1000}
    verdict = Amplification(margin / 100).judge(effect_of(1.0, of_effect / 1000) | {"amplification": twins})
    p = max(thousandths, of_effect)
    assert verdict.outcome == ("supported" if hundredths >= margin and p <= 50 else "refuted") and verdict.p == p / 1000
    assert verdict.figures["ratio"] == verdict.figures["observed"] == hundredths / 100


@pytest.mark.parametrize("given_twins", [{}, {"amplification": None}])
def test_an_amplification_without_twins_is_not_evaluated(given_twins):
    verdict = Amplification().judge(evidence(1, 1) | given_twins)
    assert (
        verdict.outcome == "not evaluated" and "`--twins 3`" in verdict.reason and verdict.figures["observed"] is None
    )


def test_the_message_of_an_amplification_gives_every_figure():
    verdict = Amplification(1.25).judge(effect_of(1.0, 0.01) | {"amplification": {"ratio": 1.1, "p": 0.3}})
    assert str(verdict) == "refuted: 1.10 times the effect of the twins (at least 1.25), p = 0.3"
    found = {"amplification": {"ratio": 9.0, "p": 0.001}}
    few = Amplification().judge(effect_of(9.0, 0.001, MINIMUM_PAIRS - 1) | found)
    assert few.outcome == "inconclusive"


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        *((Effect, value, "at least 0.39 %") for value in (0, -1, 0.39, float("nan"))),
        *((Amplification, value, "at least 1.25") for value in (1, 1.24)),
    ],
)
def test_an_effect_or_amplification_of_no_interest_is_refused(kind, value, message):
    with pytest.raises(ValueError, match=message):
        kind(value)


def test_counts_are_decided_at_the_lowest_threshold_that_is_claimed_or_at_the_usual_one():
    low, high = Exceedance(3.0, 2.0), Exceedance(5.0, 2.0)
    assert primary([high, Effect(), low]) == low and primary([high, Effect()]) == high
    assert primary([Effect()]) == USUAL

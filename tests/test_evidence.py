import csv
import gzip
import io
import json

import numpy as np
import pytest
from scipy.stats import ttest_rel

from fixtures.activations.activations import Activations, cell_rms, pair_differences, pooled_rms, split_members
from fixtures.claims.evidence import evaluate, noise_ratios, subset_counts
from fixtures.models.description import skeleton
from fixtures.models.unit_rows import PLACE
from fixtures.results.unit_table import FIGURES, unit_table
from fixtures.statistics.consistency import split_half_r
from fixtures.statistics.null_plan import NullPlan

N_PAIRS, PLANTED = 12, 20


@pytest.fixture(scope="module")
def activations(tiny):
    """Noise, and in the first 20 channel groups twice the mean square for A."""
    generator = np.random.default_rng(1)
    mean_square = generator.gamma(20, 1 / 20, (2 * N_PAIRS, 7, len(tiny.groups.units))).astype(np.float32)
    mean_square[0::2, :, :PLANTED] *= 2
    mean_square[:, :, 143] = 1  # never moves: t is 0
    counts = np.tile([[20, 140, 4, 4, 4, 4, 16]], (2 * N_PAIRS, 1))
    return Activations(mean_square, counts)


@pytest.fixture(scope="module")
def evaluated(tiny, activations):
    return with_table(tiny, activations)


def with_table(tiny, activations):
    record, figures = evaluate(activations, tiny.groups, tiny.heads, NullPlan())
    return record, unit_table(tiny.groups, figures)


def read_units(data):
    return list(csv.DictReader(io.StringIO(gzip.decompress(data).decode())))


def test_per_unit_t_is_scipys(tiny, activations, evaluated):
    a, b = split_members(pooled_rms(activations, tiny.groups))
    expected = ttest_rel(a[:, :143], b[:, :143]).statistic
    rows = read_units(evaluated[1])
    assert [row["unit"] for row in rows] == [str(index) for index in range(144)]
    np.testing.assert_allclose([float(row["t"]) for row in rows[:143]], expected, rtol=1e-8)
    assert float(rows[143]["t"]) == 0


def test_per_unit_d_is_the_mean_over_the_standard_deviation(tiny, activations, evaluated):
    a, b = split_members(pooled_rms(activations, tiny.groups))
    differences, rows = (a - b)[:, :143], read_units(evaluated[1])
    expected = differences.mean(axis=0) / differences.std(axis=0, ddof=1)
    np.testing.assert_allclose([float(row["cohens_d"]) for row in rows[:143]], expected, rtol=1e-8)


def test_a_unit_is_named_by_its_module_and_channels(tiny, evaluated):
    rows = read_units(evaluated[1])
    modules = dict(skeleton(tiny.source).named_modules())
    for row in rows:
        site, channels = row["name"].removesuffix("]").split("[")
        start, stop = map(int, channels.split(":"))
        assert stop - start == 16 and 0 <= start < stop <= modules[site].in_features
    assert len({row["name"] for row in rows}) == len(rows)


def test_the_planted_units_are_found_and_no_others(evaluated):
    found = [int(row["unit"]) for row in read_units(evaluated[1]) if float(row["p_adjusted"]) <= 0.05]
    assert found == list(range(PLANTED))
    record = evaluated[0]["familywise"]
    assert (record["alpha"], record["n_units"]) == (0.05, PLANTED)
    assert sorted(unit["unit"] for unit in record["units"]) == found
    sizes = [abs(unit["t"]) for unit in record["units"]]
    assert sizes == sorted(sizes, reverse=True) and min(sizes) >= record["critical_t"]
    assert record["smallest_p"] == min(unit["p_adjusted"] for unit in record["units"])


def test_responding_units_are_bounded_by_block_and_beyond_each_threshold(tiny, evaluated):
    record, found = evaluated[0], evaluated[0]["discoveries"]
    assert (found["confidence"], found["flips"], found["seed"], found["units"]) == (0.95, 1000, 0, PLANTED)
    assert [row["block"] for row in found["blocks"]] == list(dict.fromkeys(unit.block for unit in tiny.groups.units))
    sizes = {row["block"]: row["n_units"] for row in record["blocks"]}
    planted = [unit.block for unit in tiny.groups.units[:PLANTED]]
    for row in found["blocks"]:
        assert row["n_units"] == sizes[row["block"]]
        assert row["at_least"] == planted.count(row["block"])
    places = [(unit.block, unit.kind) for unit in tiny.groups.units]
    assert [(row["block"], row["kind"]) for row in found["cells"]] == list(dict.fromkeys(places))
    for row in found["cells"]:
        assert row["n_units"] == places.count((row["block"], row["kind"]))
        assert row["at_least"] == places[:PLANTED].count((row["block"], row["kind"]))
    for row, count in zip(found["thresholds"], record["counts"], strict=True):
        assert (row["threshold"], row["observed"]) == (count["threshold"], count["observed"])
        assert 0 < row["at_least"] <= min(row["observed"], PLANTED)


def test_bounds_from_all_flips_have_no_seed(tiny, activations):
    few = Activations(activations.mean_square[:20], activations.token_counts[:20])
    found = evaluate(few, tiny.groups, tiny.heads, NullPlan())[0]["discoveries"]
    assert (found["flips"], found["seed"]) == (2**9, None)


def test_counts_agree_with_the_units_and_add_up(evaluated):
    record, rows = evaluated[0], read_units(evaluated[1])
    for count in record["counts"]:
        beyond = [row for row in rows if abs(float(row["t"])) > count["threshold"]]
        assert count["observed"] == len(beyond) == count["positive"] + count["negative"]
        assert sum(count["null"]["count_flips"]) == count["null"]["flips"] == 2 ** (N_PAIRS - 1)
        key = f"{count['threshold']:g}"
        assert sum(block["beyond"][key] for block in record["blocks"]) == count["observed"]


@pytest.mark.parametrize(("partition", "units"), [("channel groups", 143), ("attention heads", 24)])
@pytest.mark.parametrize("by", ["kind", "stream"])
def test_shares_by_kind_and_stream_add_up_to_the_counts(evaluated, partition, units, by):
    record = evaluated[0] if partition == "channel groups" else evaluated[0]["attention_heads"]
    for count in record["counts"]:
        rows = [row for row in evaluated[0]["shares"] if (row["partition"], row["by"]) == (partition, by)]
        rows = [row for row in rows if row["threshold"] == count["threshold"]]
        assert sum(row["observed"] for row in rows) == count["observed"]
        assert sum(row["units"] for row in rows) == units


def test_shares_by_token_group_pool_that_group_alone(tiny, activations, evaluated):
    for group in ("prompt", "padding", "noise", "reference"):
        a, b = split_members(pooled_rms(activations, tiny.groups, (group,)))
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.nan_to_num(ttest_rel(a, b).statistic)
        rows = [row for row in evaluated[0]["shares"] if (row["partition"], row["value"]) == ("channel groups", group)]
        assert [row["observed"] for row in rows] == [int((np.abs(t) > threshold).sum()) for threshold in (3, 5)]
        seen = [unit for unit in tiny.groups.units if unit.stream != "image" or group in ("noise", "reference")]
        silent = sum(unit == tiny.groups.units[143] for unit in seen)  # in which no pair differs
        assert rows[0]["units"] == len(seen) - silent


def test_a_token_group_without_tokens_has_no_share(tiny, activations):
    counts = activations.token_counts.copy()
    counts[:, -1] = 0
    found = evaluate(Activations(activations.mean_square, counts), tiny.groups, tiny.heads, NullPlan())[0]["shares"]
    assert {row["value"] for row in found if row["by"] == "token group"} == {"prompt", "padding", "noise"}


def test_effect_sizes_are_percent_of_b_inside_their_intervals(tiny, activations, evaluated):
    a, b = split_members(pooled_rms(activations, tiny.groups))
    rows = read_units(evaluated[1])
    changes = np.array([float(row["relative_change"]) for row in rows])
    np.testing.assert_allclose(changes, 100 * (a.mean(axis=0) / b.mean(axis=0) - 1), rtol=1e-7, atol=1e-7)
    assert all(float(row["ci_low"]) < float(row["relative_change"]) < float(row["ci_high"]) for row in rows[:143])


def test_both_partitions_are_evaluated(tiny, activations, evaluated):
    heads = evaluated[0]["attention_heads"]
    a, b = split_members(pooled_rms(activations, tiny.heads))
    assert heads["n_units"] == 24
    np.testing.assert_allclose(heads["max_abs_t"], np.abs(ttest_rel(a, b).statistic).max())


def test_the_record_is_plain_json(evaluated):
    record, units = evaluated
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert list(read_units(units)[0]) == [*PLACE, *FIGURES]


def test_the_same_input_gives_the_same_bytes(tiny, activations, evaluated):
    assert with_table(tiny, activations) == evaluated


@pytest.mark.parametrize(("method", "permutations", "flips"), [("monte-carlo", 500, 500), ("published", 200, 200)])
def test_other_nulls_are_recorded_as_what_they_are(tiny, activations, method, permutations, flips):
    null = evaluate(activations, tiny.groups, tiny.heads, NullPlan(method, permutations, 3))[0]["counts"][0]["null"]
    assert (null["method"], null["flips"], null["seed"]) == (method, flips, 3)


def test_three_pairs_have_no_split_half(tiny, activations):
    few = Activations(activations.mean_square[:6], activations.token_counts[:6])
    assert evaluate(few, tiny.groups, tiny.heads, NullPlan())[0]["split_half_r"] is None


def test_a_comparison_on_all_pairs_repeats_the_claim_s_counts(tiny, activations, evaluated):
    rows = subset_counts(activations, tiny.groups, list(range(N_PAIRS)), NullPlan())
    own = [
        (count["threshold"], count["observed"], count["null"]["p99"], count["null"]["max"], count["p"])
        for count in evaluated[0]["counts"]
    ]
    assert [tuple(row[name] for name in ("threshold", "observed", "p99", "max", "p")) for row in rows] == own


def test_a_comparison_on_some_pairs_is_the_evidence_of_those_pairs_alone(tiny, activations):
    chosen = [0, 2, 3, 7, 8, 9, 11]
    rows = [row for pair in chosen for row in (2 * pair, 2 * pair + 1)]
    alone = Activations(activations.mean_square[rows], activations.token_counts[rows])
    expected = evaluate(alone, tiny.groups, tiny.heads, NullPlan())[0]["counts"]
    found = subset_counts(activations, tiny.groups, chosen, NullPlan())
    assert [(row["observed"], row["p"]) for row in found] == [(count["observed"], count["p"]) for count in expected]
    assert found[0]["observed"] > 0


@pytest.mark.parametrize("chosen", [[], [4]])
def test_fewer_than_two_pairs_are_not_compared(tiny, activations, chosen):
    assert subset_counts(activations, tiny.groups, chosen, NullPlan()) == []


@pytest.mark.parametrize("token_group", ["prompt", "noise", "reference"])
def test_the_rms_of_a_cell_is_that_of_its_channels(tiny, activations, token_group):
    counts = activations.token_counts.copy()
    counts[:, 3] = 0  # noise, upper right
    found = cell_rms(Activations(activations.mean_square, counts), tiny.heads, token_group)
    cells = {"prompt": [0], "noise": [2, 3, 4, 5], "reference": [6]}[token_group]
    assert found.shape == (2 * N_PAIRS, len(cells), 24) and found.dtype == np.float64
    for number, cell in enumerate(cells):
        for unit, members in enumerate(tiny.heads.groups):
            absent = cell == 3 or (token_group == "prompt" and tiny.heads.units[unit].stream == "image")
            squares = activations.mean_square[:, cell, members].astype(float).mean(axis=1)
            np.testing.assert_allclose(found[:, number, unit], 0 if absent else np.sqrt(squares))


@pytest.mark.parametrize("empty", [(), (2, 3), (2, 4)])
def test_noise_ratios_are_quadrant_by_quadrant_of_those_that_have_tokens(tiny, activations, empty):
    counts = activations.token_counts.copy()
    counts[:, list(empty)] = 0  # as of a grid of one row, or of one column
    found = noise_ratios(Activations(activations.mean_square, counts), tiny.groups)
    squares = activations.mean_square[:, [cell for cell in (2, 3, 4, 5) if cell not in empty]].astype(float)
    expected = [np.log(a / b).ravel() / 2 for a, b in zip(squares[0::2], squares[1::2], strict=True)]
    assert found.shape == (N_PAIRS, (4 - len(empty)) * 144)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_noise_ratios_see_what_moves_from_one_side_to_the_other(tiny, activations):
    mean_square = np.ones_like(activations.mean_square)
    mean_square[0::2, [2, 4]] = mean_square[1::2, [3, 5]] = 3  # A has it on the left, B on the right
    moved = Activations(mean_square, activations.token_counts)
    a, b = split_members(pooled_rms(moved, tiny.groups, ("noise",)))
    assert (a == b).all()
    np.testing.assert_allclose(np.abs(noise_ratios(moved, tiny.groups)), np.log(3) / 2)


def test_units_that_no_pair_differs_in_are_no_part_of_a_share_or_a_pattern(tiny, activations, evaluated):
    """Half of them silenced: what is left is measured as if they were not there."""
    silent = np.zeros(len(tiny.groups.units), dtype=bool)
    silent[::2] = True
    values = activations.mean_square.copy()
    values[1::2, :, silent] = values[0::2][:, :, silent]
    record, _ = evaluate(Activations(values, activations.token_counts), tiny.groups, tiny.heads, NullPlan())
    differing = pair_differences(activations, tiny.groups)[:, ~silent]
    assert record["n_units"] == differing.any(axis=0).sum() < evaluated[0]["n_units"]
    assert record["split_half_r"]["median"] == pytest.approx(split_half_r(differing[:, differing.any(axis=0)]).median)
    rows = [
        row
        for row in record["shares"]
        if (row["partition"], row["by"], row["threshold"]) == ("channel groups", "kind", 3)
    ]
    assert sum(row["units"] for row in rows) == record["n_units"]

"""A hypothesis that compares others, through pytest on a network of eight blocks with random weights."""

import json
import math

import numpy as np
import pytest
import torch
import toy_project
from diffusers import Flux2Transformer2DModel
from toy_project import PROBE, STIMULI, pairs, run, write

from fixtures.claims.axes import axis_record, share_differences
from fixtures.claims.hypothesis import Hypothesis
from fixtures.claims.ordering import MINIMUM_BLOCKS, Ordering
from fixtures.statistics.paired_t import paired_t
from fixtures.statistics.share_difference import share_difference
from fixtures.statistics.signed_sums import exceeds

pytest_plugins = "pytester"

ORDER = """
import pytest
from fixtures.claims import Hypothesis, Ordering

HYPOTHESIS = Hypothesis(
    id="order", title="Order", sentence="s", contrast="c", positive="", controls=(), compares=("weak", "toy", "other")
)


@pytest.mark.claim(Ordering(smaller="weak", larger=("toy", "other"), threshold=3.0, factor=2))
def test_order(verdict):
    assert verdict.supported, verdict
"""


@pytest.fixture(scope="module")
def wide(tiny, tmp_path_factory):
    """klein-tiny's folder with eight blocks instead of six, all weights random."""
    folder = tmp_path_factory.mktemp("wide") / "checkpoint"
    tiny.pipeline.save_pretrained(folder)
    torch.manual_seed(0)
    config = dict(tiny.pipeline.transformer.config) | {"num_single_layers": 6}
    Flux2Transformer2DModel.from_config(config).save_pretrained(folder / "transformer")
    return folder


@pytest.fixture
def order(project, wide, monkeypatch):
    """Two sets whose members differ a lot, one whose members differ in a number, and a claim about the three."""
    monkeypatch.setenv("PROBES_MODEL", str(wide))
    monkeypatch.setenv("PROBES_RESOLUTION", "64")
    write(project, "stimuli/other.toml", STIMULI.replace("toy", "other") + pairs(9, b="plain short text {number}"))
    numbers = [10 + 7 * k % 20 for k in range(20)]  # no member is the larger one in all pairs
    weak = "".join(
        f'[[pairs]]\nid = "p{n}"\ncategory = "c"\na = "a cat {a}"\nb = "a cat {b}"\n'
        for n, (a, b) in enumerate(zip(numbers[::2], numbers[1::2], strict=True))
    )
    write(project, "stimuli/weak.toml", STIMULI.replace("toy", "weak") + weak)
    write(project, "probes/test_order.py", ORDER)
    return project


def results(project):
    folder = toy_project.folder(project)
    return json.loads((folder / "results.json").read_text())


def entry(project):
    return next(hypothesis for hypothesis in results(project)["hypotheses"] if hypothesis["id"] == "order")


def files(project, pattern):
    return {file.name for file in toy_project.folder(project).glob(pattern)}


def test_supported_where_every_larger_axis_is_larger(order):
    run(order, probes="probes/test_order.py").assert_outcomes(passed=1)
    found = entry(order)
    claim = found["claims"][0]
    assert (claim["verdict"], claim["observed"], claim["required"], claim["p"]) == ("supported", 2, 2, None)
    assert [row["larger"] for row in claim["differences"]] == ["toy", "other"]
    assert all(row["low"] > 0 and row["holds"] for row in claim["differences"])
    assert [axis["n_pairs"] for axis in found["compared"]] == [10, 10, 9] and len(found["compared"][0]["blocks"]) == 8
    assert found["statement"]["sentence"] == "The claimed order was found."
    assert "axes" not in results(order) or results(order)["axes"] is None
    assert files(order, "*.units.csv.gz") == set() and files(order, "cards/*") == {"order.md"}
    page = (toy_project.folder(order) / "report.html").read_text()
    assert 'class="pr-line pr-head"' not in page and "The claimed order was found." in page


def test_refuted_where_one_is_not(order):
    write(order, "probes/test_order.py", ORDER.replace('"weak", larger=("toy"', '"toy", larger=("weak"'))
    outcome = run(order, probes="probes/test_order.py")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*refuted: weak does not hold: *points [[]*"])
    assert entry(order)["statement"]["sentence"] == "The claimed order was not found."


def test_not_evaluated_where_one_cannot_be_measured(order):
    (order.path / "stimuli/other.toml").unlink()
    run(order).assert_outcomes(passed=2, errors=1)
    claim = entry(order)["claims"][0]
    assert claim["verdict"] == "not evaluated" and "other.toml" in claim["reason"]
    assert results(order)["run"]["complete"] is False and entry(order).get("compared") is None
    toy = next(hypothesis for hypothesis in results(order)["hypotheses"] if hypothesis["id"] == "toy")
    assert all(claim["verdict"] == "supported" for claim in toy["claims"])


def test_inconclusive_with_few_blocks_or_few_pairs(order, monkeypatch):
    write(order, "stimuli/other.toml", STIMULI.replace("toy", "other") + pairs(7, b="plain short text {number}"))
    run(order, probes="probes/test_order.py").assert_outcomes(skipped=1)
    assert "7 pairs" in entry(order)["claims"][0]["reason"]
    monkeypatch.setenv("PROBES_MODEL", "klein-tiny")
    run(order, probes="probes/test_order.py").assert_outcomes(skipped=1)
    assert f"6 blocks, at least {MINIMUM_BLOCKS}" in entry(order)["claims"][0]["reason"]


def test_it_leaves_the_records_of_others_alone_and_axes_are_compared(order):
    run(order, probes="probes/test_toy.py")
    alone = results(order)["hypotheses"][0]
    assert [hypothesis["id"] for hypothesis in results(order)["hypotheses"]] == ["toy"]
    write(order, "probes/test_weak.py", PROBE.replace('id="toy"', 'id="weak"'))
    run(order)
    data = results(order)
    assert [hypothesis["id"] for hypothesis in data["hypotheses"]] == ["order", "toy", "weak"]
    beside = data["hypotheses"][1]
    assert [beside[key] for key in ("counts", "blocks", "n_pairs")] == [
        alone[k] for k in ("counts", "blocks", "n_pairs")
    ]
    assert data["axes"]["ids"] == ["toy", "weak"] and data["axes"]["r"][0][1] == data["axes"]["r"][1][0]
    counts = {axis["id"]: axis["counts"][0]["observed"] for axis in data["hypotheses"][0]["compared"]}
    assert counts["toy"] == beside["counts"][0]["observed"]
    assert data["multiple_testing"]["n"] == 4 and data["run"]["complete"] is True


def test_another_hypothesis_alone_touches_no_other_stimuli(order):
    (order.path / "stimuli/other.toml").unlink()
    run(order, "-k", "toy").assert_outcomes(passed=2, deselected=1)
    assert [hypothesis["id"] for hypothesis in results(order)["hypotheses"]] == ["toy"]


@pytest.mark.slow
def test_capture_only_fills_what_is_compared_and_the_store_alone_decides(order, tmp_path, monkeypatch):
    store = ("--store", str(tmp_path / "store"))
    outcome = run(order, "--capture-only", *store, probes="probes/test_order.py")
    assert outcome.ret == 0
    monkeypatch.setattr("fixtures.activations.segments.capture_batches", lambda *arguments: 1 / 0)
    run(order, "--store-only", *store, probes="probes/test_order.py").assert_outcomes(passed=1)


@pytest.mark.slow
def test_a_baseline_leaves_it_out(order):
    run(order, "--save-baseline", "then.json", "--baseline-seeds", "3", "--gate", "none")
    saved = json.loads((order.path / "then.json").read_text())
    assert list(saved["hypotheses"]) == ["toy"]
    outcome = run(order, "--baseline", "then.json", "--gate", "baseline")
    outcome.stdout.no_fnmatch_line("*test_baseline?order?*")
    outcome.stdout.no_fnmatch_line("*NEW*")
    assert outcome.parseoutcomes().get("failed") is None and "change" not in entry(order)


@pytest.mark.slow
def test_workers_compare_axes_too(order):
    write(order, "probes/test_weak.py", PROBE.replace('id="toy"', 'id="weak"'))
    outcome = order.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", "probes")
    assert outcome.parseoutcomes()["passed"] >= 3
    data = results(order)
    assert set(data["axes"]["ids"]) == {"toy", "weak"} and entry(order)["claims"][0]["verdict"] == "supported"


def test_a_refutation_on_record_is_bound_to_the_stimuli_that_are_compared(order):
    write(order, "probes/test_order.py", ORDER.replace('"weak", larger=("toy"', '"toy", larger=("weak"'))
    run(order, probes="probes/test_order.py")
    data = results(order)
    weights = data["model"]["weights_sha256"]
    record = f'[[model]]\nname = "x"\nweights_sha256 = "{weights}"\n[model.stimuli]\nweak = "{{}}"\n'
    record += '[model.verdicts.order]\nordering_t3 = "refuted"\n'
    sha256 = entry(order)["compared"][0]["stimuli"]["sha256"]
    write(order, "probes/known_verdicts.toml", record.format(sha256))
    run(order, probes="probes/test_order.py").assert_outcomes(xfailed=1)
    write(order, "probes/known_verdicts.toml", record.format("0" * 64))
    run(order, probes="probes/test_order.py").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('compares=("weak", "toy", "other")', 'compares=("weak", "toy")'),
        ("controls=(), compares", "extra_thresholds=(4.0,), controls=(), compares"),
        ('Ordering(smaller="weak", larger=("toy", "other"), threshold=3.0, factor=2)', "Exceedance(3.0, 2)"),
    ],
)
def test_claims_that_do_not_fit_are_refused(order, old, new):
    source = ORDER.replace("Hypothesis, Ordering", "Exceedance, Hypothesis, Ordering").replace(old, new)
    if "extra" in new:
        source = source.replace("threshold=3.0", "threshold=3.5")
    write(order, "probes/test_order.py", source)
    outcome = run(order, probes="probes/test_order.py")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*test_order.py::test_order: *"])


@pytest.mark.parametrize(
    "options",
    [{"compares": ("a", "b")}, {"compares": ("a",), "controls": ()}, {"compares": ("a", "a"), "controls": ()}],
)
def test_a_hypothesis_compares_at_least_two_others_and_has_no_controls(options):
    with pytest.raises(ValueError, match="compares="):
        Hypothesis("h", "H", "s", "c", "p", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"larger": ()},
        {"larger": ("a", "a")},
        {"larger": ("s",)},
        {"threshold": 0},
        {"factor": 0.5},
        {"confidence": 1},
    ],
)
def test_an_ordering_that_makes_no_sense_is_refused(options):
    with pytest.raises(ValueError, match="expected"):
        Ordering(**{"smaller": "s", "larger": ("a",), "threshold": 3.0, "factor": 2} | options)


class Units:
    """Partition of ``blocks`` blocks of ``size`` units."""

    def __init__(self, blocks, size):
        self.units = [type("Unit", (), {"block": f"b{n}"})() for n in range(blocks) for _ in range(size)]


def make(strengths, n_pairs=25, blocks=8, size=30, seed=0):
    rng = np.random.default_rng(seed)
    groups = Units(blocks, size)
    return [
        axis_record(name, rng.normal(mean, 1, (n_pairs, blocks * size)), groups, (3.0, 5.0))
        for name, mean in strengths.items()
    ]


def test_counts_by_block_are_those_of_every_unit():
    d = np.random.default_rng(3).normal(0.5, 1, (12, 40))
    record = axis_record("x", d, Units(4, 10), (2.0, 3.0))
    beyond = exceeds(paired_t(d), 2.0, 12)
    assert [block["beyond"]["2"] for block in record["blocks"]] == beyond.reshape(4, 10).sum(axis=1).tolist()
    assert record["counts"][0] == {"threshold": 2.0, "observed": int(beyond.sum())}


def test_rows_hold_by_interval_and_factor_with_bonferroni():
    compared = make({"s": 0.3, "a": 0.6, "b": 0.35})
    claim = Ordering("s", ("a", "b"), 3.0, 2)
    assert claim.each_confidence == pytest.approx(0.975)
    rows = share_differences(compared, "s", ("a", "b"), 3.0, 2, claim.each_confidence, seed=1)
    units = [30] * 8
    smaller, larger = ([b["beyond"]["3"] for b in axis["blocks"]] for axis in compared[:2])
    expected = share_difference(larger, smaller, units, 0.975, seed=1)
    assert (rows[0]["low"], rows[0]["high"]) == (expected.low, expected.high)
    assert rows[0]["ratio"] == pytest.approx(sum(larger) / sum(smaller))
    assert [row["holds"] for row in rows] == [True, False]


def test_a_large_ratio_is_not_enough_without_an_interval_above_0():
    compared = make({"s": 0.0, "a": 0.0})
    for block in compared[1]["blocks"]:
        block["beyond"]["3"] = 0
    for block in compared[0]["blocks"]:
        block["beyond"]["3"] = 0
    compared[1]["blocks"][0]["beyond"]["3"] = 30
    row = share_differences(compared, "s", ("a",), 3.0, 2, 0.95, 0)[0]
    assert row["ratio"] is None and row["low"] == 0 and not row["holds"] and math.isclose(row["difference"], 1 / 8)

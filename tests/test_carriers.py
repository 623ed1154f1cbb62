"""Markers and carriers: the record and the table say what attribution and response are, and the run folder gets the
table; the figure shows it."""

import csv
import gzip
import io
import json
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from hostile import PAYLOADS

from fixtures.activations.patching import Moved
from fixtures.claims.carrier_records import CarriersRecord
from fixtures.claims.carriers import JOBS, PATCHED, STRONGEST, carriers_record
from fixtures.claims.claims import Effect
from fixtures.claims.hypothesis import compared_hypothesis
from fixtures.claims.verdict import Verdict
from fixtures.common.forms import check_form
from fixtures.models.unit_rows import PLACE, unit_rows
from fixtures.report.figures.carriers import ROLES, carriers_figure
from fixtures.results.unit_table import read_unit_table
from fixtures.session.run import Run
from fixtures.statistics.null_plan import NullPlan
from fixtures.statistics.paired_t import paired_t

N_PAIRS, DONORS, RECIPIENTS = 20, list(range(12)), list(range(12, 20))
TWINS = (("shuffled", 0), ("re-initialised", 3))
MARKERS, CARRIERS, BOTH = slice(0, 10), slice(10, 25), slice(25, 40)


class Linear:
    """A model in which patching moves what attribution says, and ``wrong`` turns the ranks around."""

    def __init__(self, n_units: int, wrong: bool = False):
        rng = np.random.default_rng(1)
        self.share = rng.standard_normal((N_PAIRS, n_units)) * 1e-3
        self.share[:, CARRIERS] += 0.02
        self.share[:, BOTH] += 0.05
        self.weight, self.sign, self.jobs = rng.uniform(1, 5, N_PAIRS), -1 if wrong else 1, None

    def attribution(self, donors, recipients, at=(), twin=None):
        if twin is not None:  # as many units as its seed says
            used = np.arange(self.share.shape[1]) < twin[1]
            return np.resize([0.9, 1.1], len(donors))[:, None] * (twin[1] * used)
        weights = self.weight[list(recipients)]
        return np.array(
            [np.average(self.share[donor] + np.zeros((len(weights), 1)), axis=0, weights=weights) for donor in donors]
        )

    def moved(self, jobs, doses, into=()):
        self.jobs, (unit_of_dose,) = jobs, np.nonzero(doses.units)[1:]
        wanted = np.array([self.weight[recipient] for _, recipient in jobs])
        along = [
            self.sign * self.share[donor][unit_of_dose] * own for (donor, _), own in zip(jobs, wanted, strict=True)
        ]
        along = np.repeat(np.array(along)[:, :, None], 2, axis=2)
        return Moved(along, along**2, wanted, wanted, wanted)


@pytest.fixture(scope="module")
def differences(tiny):
    found = np.random.default_rng(0).standard_normal((N_PAIRS, len(tiny.groups.units)))
    found[:, MARKERS] += 9
    found[:, BOTH] -= 9
    return found


def made(tiny, differences, **options):
    causal = Linear(len(tiny.groups.units), **options)
    record, table = carriers_record(causal, DONORS, RECIPIENTS, tiny.groups, differences, 25, NullPlan(), "toy", TWINS)
    return causal, record, table


def test_the_record_has_the_roles_the_sum_and_the_strongest_units(tiny, differences):
    causal, record, table = made(tiny, differences)
    check_form(CarriersRecord, json.loads(json.dumps(record)), "carriers", "")
    n_units = len(tiny.groups.units)
    assert record["roles"] == {
        "responds and is used": 15,
        "responds only": 10,
        "used only": 15,
        "neither": n_units - 40,
    }
    mean = causal.share[DONORS].mean(axis=0)
    assert record["total"] == pytest.approx(mean.sum())
    strongest = record["strongest"]
    assert len(strongest) == STRONGEST
    assert [unit["unit"] for unit in strongest] == np.argsort(-np.abs(mean), kind="stable")[:STRONGEST].tolist()
    assert {unit["role"] for unit in strongest[:15]} == {"responds and is used"}
    for unit in strongest:
        own = tiny.groups.units[unit["unit"]]
        assert (unit["block"], unit["kind"], unit["start"]) == (own.block, own.kind, own.start)
        assert unit["attribution"] == pytest.approx(mean[unit["unit"]])
        assert unit["t"] == pytest.approx(paired_t(differences)[unit["unit"]])
    assert record["largest"] == strongest[0]["attribution"]
    expected = [["shuffled", 0, 0, 0.0], ["re-initialised", 3, 3, pytest.approx(3)]]
    assert [list(twin.values()) for twin in record["twins"]] == expected
    assert (record["n_donors"], record["n_recipients"], record["file"]) == (12, 8, "toy.carriers.csv.gz")


@pytest.mark.parametrize("wrong", [False, True])
def test_agreement_is_of_the_units_that_were_patched(tiny, differences, wrong):
    causal, record, _ = made(tiny, differences, wrong=wrong)
    agreement = record["agreement"]
    assert causal.jobs == [(0, 12), (1, 13)] and agreement["n_jobs"] == JOBS and agreement["n_units"] == PATCHED
    expected = -1 if wrong else 1
    assert [agreement["rho"], *agreement["interval"]] == pytest.approx([expected] * 3)


def test_no_pair_gives_to_itself(tiny, differences):
    with pytest.raises(ValueError, match=r"expected none to be both, got \[3\]"):
        carriers_record(Linear(3), [1, 2, 3], [3, 4], tiny.groups, differences, 25, NullPlan(), "toy")


def test_the_table_has_every_unit_as_it_is(tiny, differences, tmp_path):
    causal, record, data = made(tiny, differences)
    (tmp_path / "units.csv.gz").write_bytes(data)
    table = read_unit_table(tmp_path / "units.csv.gz")
    np.testing.assert_allclose(table.t, paired_t(differences), rtol=1e-8)
    assert list(table.rows[0]) == [*PLACE, "t", "attribution", "attribution_t", "attribution_p_adjusted", "role"]
    assert [int(row["unit"]) for row in table.rows] == list(range(len(tiny.groups.units)))
    mean = causal.share[DONORS].mean(axis=0)
    np.testing.assert_allclose([float(row["attribution"]) for row in table.rows], mean, rtol=1e-8)
    roles = [row["role"] for row in table.rows]
    assert {role: roles.count(role) for role in record["roles"]} == record["roles"]
    used = [float(row["attribution_p_adjusted"]) <= 0.05 and float(row["attribution"]) > 0 for row in table.rows]
    assert used == ["used" in role for role in roles]


def test_a_figure_without_a_value_is_left_empty_and_bytes_do_not_depend_on_the_hour(tiny):
    values = np.arange(len(tiny.groups.units), dtype=float)
    values[3] = np.nan
    data = unit_rows(tiny.groups, {"value": values, "word": ['a, "b"'] * values.size})
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(data).decode())))
    assert rows[3]["value"] == "" and rows[4]["value"] == "4" and rows[0]["word"] == 'a, "b"'
    assert data == unit_rows(tiny.groups, {"value": values, "word": ['a, "b"'] * values.size})


def test_a_run_writes_the_table_of_a_control_computed_or_from_the_store(tiny, tmp_path, monkeypatch):
    hypothesis, asked = compared_hypothesis("toy"), []
    figures = {"n": 1, "carriers": {"file": "toy.carriers.csv.gz"}}

    def evaluate(name, case):
        asked.append(name)
        return Verdict("passed", "so", figures, "1", 0.01, table=b"bytes")

    def run(folder, notify=print):
        folder.mkdir(exist_ok=True)
        settings = replace(tiny.settings, store=tmp_path / "store", controls=())
        found = Run(settings, tmp_path, folder, lambda what: print, notify)
        monkeypatch.setattr(found, "remember", lambda: None)
        stimuli = SimpleNamespace(sha256="s")
        measured = SimpleNamespace(origin={"key": "k", "created": "2026"}, stimuli=stimuli, model=tiny)
        found._evidence["toy"] = measured, {"n_pairs": 10}
        return found.control(hypothesis, "familywise", [Effect()])

    monkeypatch.setattr("fixtures.session.climbing.evaluate_control", evaluate)
    for folder in (tmp_path / "first", tmp_path / "second"):
        verdict = run(folder)
        assert verdict == Verdict("passed", "so", figures, "1", 0.01) and verdict.table == b""
        assert (folder / "toy.carriers.csv.gz").read_bytes() == b"bytes"
    assert asked == ["familywise"]
    (tmp_path / "third" / "toy.carriers.csv.gz").mkdir(parents=True)
    lines = []
    verdict = run(tmp_path / "third", lines.append)
    assert verdict.passed and verdict.figures["carriers"]["file"] is None and "could not be written" in lines[0]


# the figure


def drawn(folder, record, data, **more) -> tuple:
    """The figure of a hypothesis with this record and table, and its drawing; None where there is none."""
    if data is not None:
        (folder / "toy.carriers.csv.gz").write_bytes(data)
    control = {"id": "specific", "evidence": {"carriers": record}}
    figure = carriers_figure({"id": "toy", "title": "Toy", "controls": [control]} | more, folder)
    return figure, figure and ElementTree.fromstring(figure.svg)


def paths(root) -> dict[str, str]:
    """By style, what is drawn inside the axes."""
    found = {
        element.get("class"): element.get("d")
        for group in root.iter("{http://www.w3.org/2000/svg}g")
        for element in group
    }
    return {style: found[style] for style, _ in ROLES.values() if style in found}


def test_the_figure_has_every_unit_in_the_shape_of_its_role_and_the_numbers_of_each(tiny, differences, tmp_path):
    _, record, data = made(tiny, differences)
    figure, root = drawn(tmp_path, record, data)
    shapes = paths(root)
    assert set(shapes) == {style for style, _ in ROLES.values()}
    for role, number in record["roles"].items():
        style, shape = ROLES[role]
        assert 0 < shapes[style].count(shape) == shapes[style].count("M") <= number
        assert f"{role}: {number}" in figure.svg and f"{role}: {number}" in figure.alt
    assert "untrained twins: 0 to 3 used, 0 to 300 % at most" in figure.svg
    assert "rank correlation with patching 1.00 (1.00 to 1.00), 32 units" in figure.svg
    assert "prefers-color-scheme:dark" in figure.svg and len({shape for _, shape in ROLES.values()}) == 4


def test_a_mark_lies_where_its_response_and_attribution_are(tiny, differences, tmp_path):
    """Of the unit with the largest attribution, and of one of those below 0."""
    _, record, _ = made(tiny, differences)
    n_units = len(tiny.groups.units)
    t, attribution = np.full(n_units, 1.0), np.full(n_units, 0.0)
    t[0], attribution[0], t[1], attribution[1] = -10.0, 0.04, 5.0, -0.01
    roles = ["responds and is used", "responds only"] + ["neither"] * (n_units - 2)
    figure, root = drawn(tmp_path, record, unit_rows(tiny.groups, {"t": t, "attribution": attribution, "role": roles}))
    shapes = paths(root)
    (x, y), (other, lower) = (map(float, shapes[style][1:].split("m")[0].split()) for style in ("both", "marker"))
    (_, zero) = map(float, shapes["none"][1:].split("m")[0].split())
    assert x == pytest.approx(2**0.5 * other, abs=4) and zero - y == pytest.approx(2 * (lower - zero), abs=6)
    assert 0 < other < x and y < zero
    assert shapes["none"].count("M") == 1  # all others share one place


@pytest.mark.parametrize("data", [None, b"", b"no table", gzip.compress(b"t,attribution,role\nx,1,neither\n", mtime=0)])
def test_without_a_table_that_can_be_read_there_is_no_figure(tmp_path, data):
    assert drawn(tmp_path, {"file": "toy.carriers.csv.gz"}, data)[0] is None
    assert drawn(tmp_path, {"file": None}, data)[0] is None
    assert carriers_figure({"id": "toy"}, tmp_path) is carriers_figure({"id": "toy"}, None) is None


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_hostile_table_or_record_makes_no_other_drawing(tiny, differences, tmp_path, payload):
    _, record, _ = made(tiny, differences)
    roles = [payload.encode("utf-8", "replace").decode(), *["neither"] * (len(tiny.groups.units) - 1)]
    columns = {"t": differences[0], "attribution": differences[1], "role": roles}
    hostile = record | {
        "agreement": {"rho": payload, "interval": [payload] * 2, "n_units": payload},
        "twins": [{"used": payload}, payload],
    }
    figure, root = drawn(tmp_path, hostile, unit_rows(tiny.groups, columns), title=payload)
    assert f"neither: {len(tiny.groups.units) - 1}<" in figure.svg
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg",
        "title",
        "style",
        "rect",
        "g",
        "text",
        "path",
    }

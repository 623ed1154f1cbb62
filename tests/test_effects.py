"""Records of the effect on noise tokens: what they hold is what the statistics give."""

import json

import numpy as np
import pytest

from fixtures.activations.activations import Activations, pooled_rms, split_members
from fixtures.claims.cells import amplified_cells, cell_products
from fixtures.claims.effect_records import AmplificationRecord, EffectRecord
from fixtures.claims.effects import amplification_record, effect_record
from fixtures.claims.evidence import noise_ratios
from fixtures.common.forms import check_form
from fixtures.models.units import CELLS
from fixtures.statistics.amplification import amplification
from fixtures.statistics.log_effect import log_effect, log_ratios, percent

PAIRS = 10


def shown(tiny, seed=0, size=0.2, quadrant=None) -> Activations:
    """A's units are stronger or weaker than B's by ``size``, on all tokens or in one quadrant of the picture."""
    rng = np.random.default_rng(seed)
    n_groups = tiny.groups.groups.max() + 1
    logs = 0.02 * rng.standard_normal((2 * PAIRS, len(CELLS), n_groups))
    logs[0::2, slice(None) if quadrant is None else CELLS.index(quadrant)] += size * rng.standard_normal(n_groups)
    return Activations(np.exp(2 * logs).astype(np.float32), np.full((2 * PAIRS, len(CELLS)), 8))


def test_it_is_the_effect_of_the_statistics(tiny):
    activations = shown(tiny)
    record, ratios = effect_record(activations, tiny.groups, 3), noise_ratios(activations, tiny.groups)
    expected = log_effect(ratios)
    assert record["percent"] == percent(expected.mean_square) == pytest.approx(20, rel=0.2)
    assert (record["p"], record["flips"], record["seed"]) == (expected.p, 2 ** (PAIRS - 1), None)
    assert (record["absent_p"], record["power"], record["pairs"]) == (
        expected.absent_p,
        expected.power,
        expected.pairs,
    )
    assert record["n_units"] * record["quadrants"] == ratios.shape[1] and record["quadrants"] == 4
    check_form(EffectRecord, json.loads(json.dumps(record)), "effect", "")


def test_parts_are_effects_of_their_own(tiny):
    activations = shown(tiny)
    parts = {(part["by"], part["value"]): part for part in effect_record(activations, tiny.groups, 0)["parts"]}
    for group in ("prompt", "noise", "reference"):
        through = [unit.stream != "image" or group != "prompt" for unit in tiny.groups.units]
        a, b = split_members(pooled_rms(activations, tiny.groups, (group,))[:, through])
        assert parts["token group", group]["percent"] == percent(log_effect(log_ratios(a, b)).mean_square)
    blocks = dict.fromkeys(unit.block for unit in tiny.groups.units)
    assert [value for by, value in parts if by == "block"] == list(blocks)
    ratios = noise_ratios(activations, tiny.groups).reshape(PAIRS, 4, -1)
    for kind in ("attention", "mlp"):
        chosen = [unit.kind == kind for unit in tiny.groups.units]
        expected = log_effect(ratios[:, :, chosen].reshape(PAIRS, -1))
        assert parts["kind", kind]["percent"] == pytest.approx(percent(expected.mean_square))


def test_cells_are_the_units_of_one_kind_in_one_block(tiny):
    own, *twins = (shown(tiny, seed, size) for seed, size in enumerate((0.3, 0.1, 0.1, 0.1)))
    effects = effect_record(own, tiny.groups, 0)["cells"]
    own, *twins = (noise_ratios(each, tiny.groups) for each in (own, *twins))
    products = [cell_products(each, tiny.groups) for each in (own, *twins)]
    amplified = amplified_cells(products[0], products[1:], tiny.groups, 0.9)
    units = tiny.groups.units
    assert sum(cell["n_units"] for cell in effects) == len(units) and len(effects) == len(amplified) > 3
    assert list(dict.fromkeys(cell["block"] for cell in effects)) == list(dict.fromkeys(unit.block for unit in units))
    each = 1 - 0.1 / len(effects)
    for effect, cell in zip(effects, amplified, strict=True):
        inside = [
            (unit.block, unit.kind, unit.stream) == (cell["block"], cell["kind"], cell["stream"]) for unit in units
        ]
        within = [values.reshape(PAIRS, 4, -1)[:, :, inside].reshape(PAIRS, -1) for values in (own, *twins)]
        found = amplification(within[0], within[1:], confidence=each)
        assert (cell["ratio"], cell["interval"]) == (pytest.approx(found.ratio), pytest.approx([found.low, found.high]))
        assert effect["percent"] == cell["percent"] == pytest.approx(percent(log_effect(within[0]).mean_square))
        assert effect["n_units"] == cell["n_units"] == sum(inside)


def test_an_effect_in_one_quadrant_is_seen_by_quadrant(tiny):
    activations = shown(tiny, size=0.3, quadrant="noise, upper left")
    assert effect_record(activations, tiny.groups, 0)["percent"] == pytest.approx(15, rel=0.2)  # 30 in one of four


def test_a_unit_that_is_silent_in_one_member_alone_has_no_effect(tiny):
    activations = shown(tiny)
    activations.mean_square[4] = 0
    assert effect_record(activations, tiny.groups, 0) is None


def test_the_amplification_stands_beside_the_effects_that_it_was_found_of(tiny):
    own, *twins = (noise_ratios(shown(tiny, seed, size), tiny.groups) for seed, size in enumerate((0.3, 0.1, 0.1, 0.1)))
    found = amplification(own, twins)
    record = amplification_record(found, own, [("shuffled", number, twin) for number, twin in enumerate(twins)])
    check_form(AmplificationRecord, json.loads(json.dumps(record)), "amplification", "")
    assert record["ratio"] == found.ratio == pytest.approx(3, rel=0.3) and record["interval"] == [found.low, found.high]
    assert record["percent"] == percent(log_effect(own).mean_square)
    assert [twin["percent"] for twin in record["twins"]] == [percent(log_effect(twin).mean_square) for twin in twins]

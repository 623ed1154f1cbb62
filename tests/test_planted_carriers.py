"""A concept planted in its carriers: what is written where, and that causal tests find these units and no markers."""

import numpy as np
import pytest
import torch

from fixtures.activations.patching import Doses
from fixtures.activations.presentation import Stimulus
from fixtures.activations.whole_passes import WholePasses
from fixtures.calibration import uses
from fixtures.calibration.carriers import QUIET, STRENGTH, plant_path
from fixtures.calibration.stand_in import Remembered, capture_prompts, embeddings_of, one_thread, protocol_of
from fixtures.calibration.uses import PAIRS, PLANTED, RANDOM_SETS, SEPARATED, TEXT_LENGTH, causal_run
from fixtures.claims.controls.causal import choose
from fixtures.claims.evidence import noise_ratios
from fixtures.statistics.causal_roles import unit_effects

WORDS = ("apple", "barn", "wolf", "drum")
AMPLITUDES = {"apple": 1.5, "wolf": -1.0}


@pytest.fixture(scope="module", autouse=True)
def torch_on_one_core():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def loaded(tiny):
    return Remembered(tiny.loaded, embeddings_of(tiny, WORDS))


@pytest.fixture(scope="module")
def units(tiny):
    """Carriers and markers."""
    chosen = np.random.default_rng(0).permutation(len(tiny.groups.units))
    return tuple(np.isin(np.arange(len(chosen)), part) for part in (chosen[:14], chosen[14:28]))


def kept_of(tiny, loaded, prompts=WORDS):
    """Predictions, and what enters every unit on noise rows, by unit: shape (n_stimuli, n_tokens, 16)."""
    with WholePasses(loaded, tiny.sites, [Stimulus(word, word) for word in prompts], protocol_of(tiny, 0)) as passes:
        predicted, kept = passes.keeping(range(len(prompts)))
    numbers = {site.name: number for number, site in enumerate(tiny.sites)}
    return predicted, [kept[numbers[unit.site]][..., unit.start : unit.stop] for unit in tiny.groups.units]


def test_carriers_alone_have_their_output_weights(tiny, loaded, units):
    carriers, marking = units
    planted = plant_path(loaded, tiny, carriers, AMPLITUDES, 0, {}, marking)
    for number, unit in enumerate(tiny.groups.units):
        factor = 0 if marking[number] else 1 if carriers[number] else QUIET
        before, after = (
            each.transformer.get_submodule(unit.site).weight[:, unit.start : unit.stop] for each in (loaded, planted)
        )
        torch.testing.assert_close(after, factor * before)
    for name, value in loaded.transformer.state_dict().items():
        if name not in {f"{site.name}.weight" for site in tiny.sites}:
            assert torch.equal(value, planted.transformer.state_dict()[name])
    assert not any(module._forward_pre_hooks for module in loaded.transformer.modules())


def test_hooks_add_the_pattern_times_the_amplitude_of_the_prompt(tiny, loaded, units):
    """At the first site that has carriers; what comes later hears of it."""
    carriers, _ = units
    first = tiny.groups.units[int(np.flatnonzero(carriers)[0])].site
    inside = np.array([unit.site == first for unit in tiny.groups.units])
    planted = plant_path(loaded, tiny, carriers, AMPLITUDES, 0)
    plain = plant_path(loaded, tiny, carriers, {}, 0)
    (_, with_it), (_, without) = kept_of(tiny, planted), kept_of(tiny, plain)
    for number in np.flatnonzero(inside):
        added = with_it[number] - without[number]
        if not carriers[number]:
            assert torch.equal(added, torch.zeros_like(added))
            continue
        pattern = added[0] / AMPLITUDES["apple"]
        torch.testing.assert_close(added[2], AMPLITUDES["wolf"] * pattern, rtol=1e-4, atol=1e-5)
        assert (added[1] == 0).all() and (added[3] == 0).all()
        assert float(pattern.square().mean().sqrt()) == pytest.approx(STRENGTH, rel=0.2)


def test_text_rows_are_left_alone(tiny, loaded):
    """And so is a site that is called outside of a pass, also after a capture, which ends its passes early."""
    carriers = np.array([unit.site == tiny.sites[2].name for unit in tiny.groups.units])  # text attends to noise later
    planted = plant_path(loaded, tiny, carriers, AMPLITUDES, 0)
    capture_prompts(planted, tiny, WORDS, protocol_of(tiny, 0))
    seen = []
    module = planted.transformer.get_submodule(tiny.sites[2].name)
    zeros = torch.zeros(1, 50, tiny.sites[2].channels)
    handle = module.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].clone()))
    module(zeros)
    assert torch.equal(seen.pop(), zeros)
    with WholePasses(planted, tiny.sites, [Stimulus("apple", "apple")], protocol_of(tiny, 0)) as passes:
        passes([0])
    handle.remove()
    plain = plant_path(loaded, tiny, carriers, {}, 0)
    plain.transformer.get_submodule(tiny.sites[2].name).register_forward_pre_hook(
        lambda module, arguments: seen.append(arguments[0].clone())
    )
    with WholePasses(plain, tiny.sites, [Stimulus("apple", "apple")], protocol_of(tiny, 0)) as passes:
        passes([0])
    (found, without), length = seen, protocol_of(tiny, 0).text_length
    assert torch.equal(found[:, :length], without[:, :length])
    assert not torch.isclose(found[:, length:], without[:, length:]).all(dim=-1).any()


def test_signs_leave_the_carriers_rms_and_markers_leave_the_output(tiny, loaded, units):
    carriers, marking = units
    signs = {"apple": 1, "barn": -1, "wolf": 1, "drum": -1}
    planted = plant_path(loaded, tiny, carriers, signs, 0, {"apple": 1.0, "wolf": 1.0}, marking)
    unmarked = plant_path(loaded, tiny, carriers, signs, 0, {}, marking)
    (predicted, entering), (same, _) = kept_of(tiny, planted), kept_of(tiny, unmarked)
    assert torch.equal(predicted, same)
    rms = torch.stack([values.square().mean(dim=(1, 2)).sqrt() for values in entering])
    assert torch.equal(rms[carriers, 0], rms[carriers, 1])
    assert (rms[marking, 0] > 1.2 * rms[marking, 1]).all()
    difference = (predicted[0] - predicted[1]).norm()
    assert difference > 0.05 * predicted[0].norm()


@pytest.fixture(scope="module")
def responding(tiny):
    return causal_run(tiny, 0, 0, False)


@pytest.fixture(scope="module")
def marked(tiny):
    return causal_run(tiny, 0, 0, True)


def test_a_run_plants_one_unit_in_ten(tiny, responding, marked):
    number = round(PLANTED * len(tiny.groups.units))
    assert responding.carriers.sum() == marked.carriers.sum() == marked.marking.sum() == number
    assert responding.marking is None and not (marked.carriers & marked.marking).any()
    assert len(responding.measured.sequence) == len(responding.measured.placebo[0].shown) == 2 * PAIRS
    assert len(responding.measured.twins) == 6 and responding.measured.causal.random_sets == RANDOM_SETS
    words = [stimulus.prompt for stimulus, _ in (*responding.measured.sequence, *responding.measured.placebo[0].shown)]
    assert len(set(words)) == 4 * PAIRS
    assert max(tiny.loaded.family.count_tokens(tiny.pipeline, word) for word in words) <= TEXT_LENGTH


def test_carriers_that_respond_are_found_and_used(responding):
    choice = choose(responding.measured, responding.seed)
    assert choice.found[responding.carriers].all()
    assert responding.separation(choice.scores) == 1
    verdicts = responding.verdicts()
    assert list(verdicts) == ["sufficient", "necessary", "specific", "dose"]
    assert all(verdict.passed for verdict in verdicts.values()), verdicts
    assert responding.separation(responding.recovered()) >= SEPARATED


def test_markers_are_found_by_their_response_and_move_nothing(tiny, marked):
    """Carriers are found by patching them alone, and by nothing that RMS shows."""
    ratios = noise_ratios(marked.measured.activations, tiny.groups)
    effects = unit_effects(ratios).reshape(-1, len(tiny.groups.units)).mean(axis=0)
    markers = np.argsort(-effects)[: marked.marking.sum()]
    assert marked.marking[markers].all() and marked.separation(effects) < 0.5
    jobs = choose(marked.measured, 0).roles.jobs()
    found = marked.measured.causal.moved(jobs, Doses.whole(np.array([marked.marking, marked.carriers])))
    shares = found.along[:, :, 0].sum(axis=0) / found.wanted.sum()
    assert shares[0] == 0 and shares[1] == pytest.approx(1, abs=0.05)
    assert marked.separation(marked.recovered()) >= SEPARATED
    verdicts = marked.verdicts(uses.MARKED)
    assert not any(verdict.passed for verdict in verdicts.values()), verdicts


def test_separation_is_of_any_scores(responding):
    carriers = responding.carriers
    assert responding.separation(np.where(carriers, 2.0, 1.0)) == 1
    assert responding.separation(np.where(carriers, -1.0, 1.0)) == 0
    assert responding.separation(np.zeros(len(carriers))) == 0.5
    rng = np.random.default_rng(0)
    drawn = [responding.separation(rng.random(len(carriers))) for _ in range(200)]
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
def test_rows_are_of_every_score_and_say_when_units_are_not_found(tiny, monkeypatch):
    """Any score of units gets a row; one of the activations alone fails, by the markers."""

    def responses(run):
        return unit_effects(noise_ratios(run.measured.activations, tiny.groups)).reshape(4, -1).mean(axis=0)

    monkeypatch.setattr(uses, "SCORES", uses.SCORES | {"response": responses})
    told = []
    rows = uses.calibrate_uses(tiny, 0, lambda *of: told.append(of), runs=1)
    assert told == [(1, 2), (2, 2)]
    found = {row["name"]: row for row in rows}
    assert tuple(name for name in found if "response" not in name) == uses.ROWS
    assert all(found[name]["ok"] for name in uses.ROWS), rows
    assert not found["Planted carriers: AUROC of response"]["ok"]

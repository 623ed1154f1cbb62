"""A concept planted in the weights: where it is, how large, and that nothing else knows of it."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from fixtures.activations.activations import pair_differences, pooled_rms
from fixtures.activations.presentation import Stimulus
from fixtures.activations.whole_passes import WholePasses
from fixtures.calibration.concept import EFFECT, measure_edited
from fixtures.calibration.planting import (
    BLOCKS,
    CLOSED,
    DETECTORS,
    OPEN,
    RATIO,
    SHARE,
    choose_units,
    fit_gate,
    fused_rows,
    gain_of,
    plant,
)
from fixtures.calibration.prompts import noun_pairs
from fixtures.calibration.stand_in import (
    Remembered,
    capture_prompts,
    embeddings_of,
    one_thread,
    protocol_of,
)
from fixtures.claims.evidence import noise_ratios
from fixtures.statistics.log_effect import log_effect, percent


@pytest.fixture(scope="module", autouse=True)
def torch_on_one_core():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def planted(tiny):
    """Prompts, the model, planted units by site, and the edited transformer."""
    rng = np.random.default_rng(0)
    concept, placebo = noun_pairs(rng)
    chosen = choose_units(tiny.groups, rng)
    loaded = Remembered(tiny.loaded, embeddings_of(tiny, [*concept, *placebo]))
    transformer = plant(loaded, tiny, chosen, concept, placebo, protocol_of(tiny, 0), EFFECT, seed=0)
    return concept, placebo, loaded, chosen, transformer


def test_planting_changes_the_planted_units_weights_and_no_others(tiny, planted):
    _, _, loaded, chosen, transformer = planted
    before, after = loaded.transformer.state_dict(), transformer.state_dict()
    allowed = {name: np.zeros(tuple(tensor.shape), bool) for name, tensor in before.items()}
    for site, numbers in chosen.items():
        fused = allowed[site.removesuffix("to_out") + "to_qkv_mlp_proj.weight"]
        attention = transformer.get_submodule(site.removesuffix(".to_out"))
        for number in numbers:
            unit = tiny.groups.units[number]
            allowed[f"{site}.weight"][:, unit.start : unit.start + DETECTORS] = True
            for rows in fused_rows(attention, unit):
                fused[rows[:DETECTORS]] = True
            assert not after[f"{site}.weight"][:, unit.start : unit.start + DETECTORS].any()
    for name, tensor in before.items():
        changed = (tensor != after[name]).numpy()
        assert not (changed & ~allowed[name]).any(), name
        assert changed.any() == allowed[name].any(), name


def test_fused_rows_make_the_units_channels(tiny, planted):
    """Without its gate rows a unit, and no other unit, falls silent."""
    concept, _, loaded, chosen, _ = planted
    site, (number, *_) = next(iter(chosen.items()))
    transformer = deepcopy(loaded.transformer)
    attention = transformer.get_submodule(site.removesuffix(".to_out"))
    gate, _ = fused_rows(attention, tiny.groups.units[number])
    attention.to_qkv_mlp_proj.weight.data[gate] = 0
    silenced = Remembered(loaded, loaded.embeddings, transformer)
    rms = pooled_rms(capture_prompts(silenced, tiny, concept[:2], protocol_of(tiny, 0)), tiny.groups)
    assert (rms == 0).all(axis=0).nonzero()[0].tolist() == [number]


def test_planted_units_have_the_stated_effect_and_the_others_none(tiny, planted):
    concept, placebo, loaded, chosen, transformer = planted
    edited = Remembered(loaded, loaded.embeddings, transformer)
    measured = {
        name: pair_differences(capture_prompts(edited, tiny, prompts, protocol_of(tiny, seed)), tiny.groups)
        for name, prompts, seed in (("concept", concept, 0), ("placebo", placebo, 0), ("other noise", concept, 1))
    }
    d = {name: pairs.mean(axis=0) / pairs.std(axis=0, ddof=1) for name, pairs in measured.items()}
    assert len(chosen) == BLOCKS and sum(map(len, chosen.values())) == round(SHARE * len(tiny.groups.units))
    numbers = [number for numbers in chosen.values() for number in numbers]
    signs = np.concatenate(
        [np.full(len(numbers), sign) for numbers, sign in zip(chosen.values(), (1, -1, 1), strict=True)]
    )
    assert d["concept"][numbers] == pytest.approx(EFFECT * signs, abs=0.02)
    again = signs * d["other noise"][numbers]  # the gains were fitted to the first noise
    assert again.min() > 1 and again.mean() == pytest.approx(EFFECT, abs=0.2)
    assert np.abs(d["placebo"][numbers]).max() < 0.8
    assert np.abs(np.delete(d["concept"], numbers)).max() < 0.8


def test_planted_units_respond_on_noise_tokens_in_every_quadrant_and_the_others_do_not(tiny, planted):
    """RATIO is of the detectors' energy, and the gain makes them a large part of a unit's on noise tokens."""
    concept, placebo, loaded, chosen, transformer = planted
    edited = Remembered(loaded, loaded.embeddings, transformer)
    ratios = {
        name: noise_ratios(capture_prompts(edited, tiny, prompts, protocol_of(tiny, seed)), tiny.groups)
        for name, prompts, seed in (("concept", concept, 0), ("placebo", placebo, 0), ("other noise", concept, 1))
    }
    columns = np.arange(len(tiny.groups.units))  # noise tokens pass through every unit of this model
    for name in ("concept", "other noise"):
        means = ratios[name].mean(axis=0).reshape(-1, len(columns))
        for numbers, sign in zip(chosen.values(), (1, -1, 1), strict=True):
            assert len(means) == 4 and (sign * means[:, numbers].mean(axis=1) > 0.5 * RATIO / 2).all(), name
        others = np.setdiff1d(columns, np.concatenate(list(chosen.values())))
        assert np.abs(means[:, others]).mean() < 0.15 * RATIO / 2
    found = {name: log_effect(values) for name, values in ratios.items()}
    assert percent(found["concept"].mean_square) > 4 and percent(found["other noise"].mean_square) > 4
    assert found["concept"].p < 1e-4 and found["placebo"].p > 0.05 and percent(found["placebo"].mean_square) < 1


def test_gate_is_open_at_noise_tokens_and_at_no_others():
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.normal(size=(6, 10, 20)))
    tokens[:, 7:, 3] += 20
    tokens[..., 4] = 1
    product = tokens @ fit_gate(tokens, 7)
    assert product[:, :7].mean() == pytest.approx(CLOSED, abs=0.2)
    assert product[:, 7:].mean() == pytest.approx(OPEN, abs=0.2)
    assert product[:, :7].max() < product[:, 7:].min()


def test_gain_gives_the_effect():
    rng = np.random.default_rng(0)
    own, energy = rng.uniform(1, 2, 50), rng.uniform(1, 1.1, 50) + np.tile((0.3, 0), 25)
    gain = gain_of(own, energy, 1.2)
    rms = np.sqrt(own + gain**2 * energy)
    pairs = rms[0::2] - rms[1::2]
    assert pairs.mean() / pairs.std(ddof=1) == pytest.approx(1.2, abs=1e-2)
    with pytest.raises(ValueError):
        gain_of(own, energy, 1000)


def test_remembered_prompts_give_the_same_activations(tiny, planted):
    concept, _, loaded, _, _ = planted
    plain = capture_prompts(tiny.loaded, tiny, concept[:4], protocol_of(tiny, 0))
    remembered = capture_prompts(loaded, tiny, concept[:4], protocol_of(tiny, 0))
    np.testing.assert_allclose(remembered.mean_square, plain.mean_square, rtol=1e-4, atol=1e-7)
    assert (remembered.token_counts == plain.token_counts).all()


def test_twins_of_an_edited_model_are_not_planted(tiny, planted):
    """They are made from the edited transformer: the shuffled twin has its values, at other places."""
    concept, placebo, loaded, chosen, transformer = planted
    measured = measure_edited(tiny, loaded, transformer, concept, placebo, 0)
    numbers = [number for numbers in chosen.values() for number in numbers]
    assert len(measured.twins) == 6
    for activations in measured.twins.values():
        pairs = pair_differences(activations, tiny.groups)
        assert np.abs(pairs.mean(axis=0) / pairs.std(axis=0, ddof=1))[numbers].mean() < 0.4


def test_planted_units_are_markers(tiny, planted):
    """What they respond with reaches no output: a model whose detectors are silent predicts the same."""
    concept, _, loaded, chosen, transformer = planted
    silenced = deepcopy(transformer)
    for site, numbers in chosen.items():
        attention = silenced.get_submodule(site.removesuffix(".to_out"))
        for number in numbers:
            _, up = fused_rows(attention, tiny.groups.units[number])
            attention.to_qkv_mlp_proj.weight.data[up[:DETECTORS]] = 0
    stimuli = [Stimulus(prompt, prompt) for prompt in concept[:4]]
    predicted = []
    for each in (transformer, silenced):
        edited = Remembered(loaded, loaded.embeddings, each)
        with WholePasses(edited, tiny.sites, stimuli, protocol_of(tiny, 0)) as passes:
            predicted.append(passes(range(4)))
    assert torch.equal(*predicted)

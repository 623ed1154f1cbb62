"""Attribution: the derivative of what patching moves, wherever memory lies, and odd in the donor."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

import fixtures.activations.attribution as module
from fixtures.activations.attribution import attribution, gradients_of
from fixtures.activations.causal import Causal
from fixtures.activations.interventions import channels_of, steered
from fixtures.activations.patching import INTO
from fixtures.activations.presentation import Stimulus
from fixtures.activations.segments import Captures
from fixtures.activations.store import Store
from fixtures.activations.whole_passes import WholePasses
from fixtures.common.errors import ProbeError
from fixtures.models.loading import load_model
from fixtures.models.twins import KINDS, untrained_twin

TEXTS = ("a glass on a table", "a broken glass on the wooden floor", "a man standing", "a woman lying under light")


def shown(photos=None, order=(0, 1, 2, 3)) -> list[Stimulus]:
    """Stimuli A, B, A, B; of images too, where there are photos."""
    return [Stimulus(f"s{number}", TEXTS[number], photos[number] if photos else None) for number in order]


def passes_of(tiny, stimuli, loaded=None) -> WholePasses:
    return WholePasses(loaded or tiny.loaded, tiny.sites, stimuli, tiny.protocol)


@pytest.mark.parametrize("with_images", [False, True])
@pytest.mark.parametrize("at", INTO)
def test_it_is_the_derivative_of_steering_by_the_donor(tiny, photos, with_images, at):
    """Of the strongest unit of every site, and of two others."""
    size = 0.05
    with passes_of(tiny, shown(photos if with_images else None)) as passes:
        (found,) = attribution(passes, 1, 1, (at,))
        own = passes([0, 1])
        d = (own[0] - own[1]).flatten().double()
        _, kept = passes.keeping([2, 3])
        along = {site: value[:1] - value[1:] for site, value in kept.items()}
        sites = np.array([unit.site for unit in tiny.groups.units])
        chosen = [max(np.flatnonzero(sites == site.name), key=lambda unit: abs(found[unit])) for site in tiny.sites]
        for unit in [*chosen, 3, 57]:
            one = channels_of(np.arange(found.size) == unit, tiny.groups, passes.sites)
            ends = [
                passes([INTO[::-1].index(at)], steered(one, along, sign * size))[0].flatten().double()
                for sign in (1, -1)
            ]
            expected = float((ends[0] - ends[1]) @ d / (2 * size) / (d @ d))
            assert found[unit] == pytest.approx(expected, rel=0.02, abs=2e-3 * np.abs(found).max())


def test_it_changes_sign_with_the_donor_and_is_a_weighted_mean_over_recipients_and_passes(tiny):
    with passes_of(tiny, shown(order=(0, 1, 2, 3, 1, 2, 2, 1))) as passes:
        found = attribution(passes, 2, 2)
        assert np.array_equal(found[0], -found[1]) and found.any()
        wanted = []
        for pair in range(2):
            own = passes([2 * pair, 2 * pair + 1])
            wanted.append(float((own[0] - own[1]).double().square().sum()))
    alone = []
    for recipient in ((0, 1), (2, 3)):
        with passes_of(tiny, shown(order=(*recipient, 1, 2))) as passes:
            alone.append(np.mean([attribution(passes, 1, 1, (at,))[0] for at in INTO], axis=0))
    np.testing.assert_allclose(found[0], np.average(alone, axis=0, weights=wanted), rtol=1e-3, atol=1e-7)


def test_checkpointed_blocks_are_computed_twice_and_give_the_same(tiny, monkeypatch):
    calls = []
    site = tiny.loaded.transformer.get_submodule(tiny.sites[-1].name)
    with passes_of(tiny, shown()) as passes:
        own = passes([0, 1])
        handle = site.register_forward_hook(lambda *given: calls.append(1))
        found = gradients_of(passes, 1, own[:1] - own[1:])
        assert len(calls) == 2 and not tiny.loaded.transformer.gradient_checkpointing
        monkeypatch.setattr(module, "checkpointed", nullcontext)
        plain = gradients_of(passes, 1, own[:1] - own[1:])
        assert len(calls) == 3
        handle.remove()
    assert found.keys() == plain.keys() == set(range(len(tiny.sites)))
    for number, gradient in plain.items():
        assert gradient.any() and torch.equal(found[number], gradient)
        assert gradient.shape[1] == tiny.sites[number].channels


def test_a_gradient_that_is_not_finite_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(module, "gradients_of", lambda *given: dict.fromkeys(range(6), torch.tensor(np.inf)))
    with passes_of(tiny, shown()) as passes, pytest.raises(ProbeError, match="s0: its gradient is not finite"):
        attribution(passes, 1, 1)


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_components_that_take_turns_give_the_same_of_the_model_and_of_twins(tiny, kind):
    """A twin is made when its turn comes, in the middle of passes: its weights must let gradients through."""
    found = []
    for loaded in (tiny.loaded, load_model(tiny.source, "cpu", "float32", turns=True)):
        loaded = untrained_twin(loaded, kind, 5) if kind else loaded
        with passes_of(tiny, shown(), loaded) as passes:
            found.append(attribution(passes, 1, 1))
    assert found[0].any() and np.array_equal(*found)


def test_the_store_keeps_it_by_donors_recipients_passes_and_twin(tiny, tmp_path, monkeypatch):
    captures = Captures("toy", tiny, Store(tmp_path), lambda what: lambda done, total: None)
    causal = Causal("toy", captures, [(stimulus, None) for stimulus in shown(order=(0, 1, 2, 3, 1, 2))])
    asked = [([1, 2], [0]), ([0], [1, 2]), ([1, 2], [0], ("b",)), ([1, 2], [0], INTO, ("shuffled", 3))]
    found = [causal.attribution(*one) for one in asked]
    assert [value.shape for value in found] == [(n, len(tiny.groups.units)) for n in (2, 1, 2, 2)]
    assert len({value.tobytes() for value in found}) == 4
    monkeypatch.setattr("fixtures.activations.causal.attribution", None)
    assert all(np.array_equal(causal.attribution(*one), value) for one, value in zip(asked, found, strict=True))

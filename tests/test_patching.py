"""What patching moves: identities, hooks written by hand, and what units write by brute force."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from fixtures.activations.interventions import channels_of
from fixtures.activations.patching import INTO, Doses, Moved, patch, written
from fixtures.activations.presentation import Stimulus
from fixtures.activations.whole_passes import WholePasses
from fixtures.models.loading import load_model

DONOR = ("A glass on a table.", "Two men and a dog in the street")
RECIPIENT = ("a cat sits on the mat", "seven unrelated long words about machinery")


def prompts(photos):
    return [Stimulus(prompt, prompt) for prompt in (*DONOR, *RECIPIENT)]


def image_pairs(photos):
    """One prompt; reference latents differ."""
    return [Stimulus(photo.name, "Describe.", photo) for photo in photos[:4]]


def prompts_beside_images(photos):
    return [Stimulus(prompt, prompt, photo) for prompt, photo in zip((*DONOR, *RECIPIENT), photos, strict=False)]


@pytest.fixture(params=[prompts, image_pairs, prompts_beside_images], ids=lambda show: show.__name__)
def stimuli(request, photos):
    return request.param(photos)


@pytest.fixture
def opened(tiny):
    """Makes whole passes of stimuli, in batches of a size, that are closed after the test."""
    passes = []

    def open_passes(stimuli, size=tiny.protocol.batch_size):
        protocol = replace(tiny.protocol, batch_size=size)
        passes.append(WholePasses(tiny.loaded, tiny.sites, stimuli, protocol).__enter__())
        return passes[-1]

    yield open_passes
    for each in reversed(passes):  # each leaves inference mode as it found it
        each.__exit__(None, None, None)


def sets(tiny, number=3, seed=0):
    return np.random.default_rng(seed).random((number, len(tiny.groups.units))) < 0.3


def all_and_none(tiny):
    return Doses.whole(np.array([[True], [False]]) & np.ones(len(tiny.groups.units), dtype=bool))


def test_all_units_of_the_own_pair_are_the_whole_way_and_none_are_none(tiny, opened, stimuli):
    """Every way by which a prompt or a reference reaches the noise tokens leads through a site."""
    own = [*stimuli[2:], *stimuli[2:]]
    found = patch(opened(own), tiny.groups, all_and_none(tiny), INTO)
    np.testing.assert_allclose(found.along[0, 0] / found.wanted[0], 1, atol=1e-5)
    np.testing.assert_allclose(found.size[0, 0] / found.wanted[0], 1, atol=1e-5)
    assert (np.abs(found.along[0, 1] / found.wanted[0]) < 1e-5).all()
    assert found.foreign[0] == pytest.approx(found.wanted[0], rel=1e-6)
    assert found.wanted[0] > 1e-4 * found.whole[0]  # the stimuli do differ


def test_all_units_of_another_pair_bring_its_own_contrast(tiny, opened, stimuli):
    passes = opened(stimuli)
    found = patch(passes, tiny.groups, all_and_none(tiny), INTO)
    share = found.foreign[0] / found.wanted[0]
    np.testing.assert_allclose(found.along[0, 0] / found.wanted[0], share, atol=1e-5)
    a, b, own_a, own_b = passes([0, 1, 2, 3]).double()
    assert found.foreign[0] == pytest.approx(float(((a - b) * (own_a - own_b)).sum()), rel=1e-4)
    assert found.wanted[0] == pytest.approx(float((own_a - own_b).square().sum()), rel=1e-4)
    assert found.whole[0] == pytest.approx(float((own_a.square().sum() + own_b.square().sum()) / 2), rel=1e-4)
    np.testing.assert_allclose(found.size[0, 0], float((a - b).square().sum()), rtol=1e-4)
    assert (found.size[0, 1] < 1e-8 * found.whole[0]).all()


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_a_dose_is_what_a_patch_written_by_hand_gives(tiny, opened, stimuli, strength):
    """A side of half a dose lies in the middle between the donor's mean and its own pass; none at all moves nothing."""
    passes, (units, *_) = opened(stimuli), sets(tiny)
    found = patch(passes, tiny.groups, Doses(units[None], np.array([strength])), INTO)
    _, kept = passes.keeping([0, 1])
    channels = channels_of(units, tiny.groups, tiny.sites)

    def side(recipient, sign):
        part = (1 + sign * strength) / 2

        def hook(number, site):
            first = 0 if site.stream == "image" else tiny.protocol.text_length

            def write(module, arguments):
                hidden, own = arguments[0].clone(), channels[number]
                a, b = kept[number][0][:, own], kept[number][1][:, own]
                hidden[:, first:, own] = part * a + (1 - part) * b
                return (hidden,)

            return write

        handles = [
            passes.loaded.transformer.get_submodule(site.name).register_forward_pre_hook(hook(number, site))
            for number, site in enumerate(tiny.sites)
        ]
        predicted = passes([recipient])[0].double()
        for handle in handles:
            handle.remove()
        return predicted

    d = (passes([2]) - passes([3]))[0].double()
    for place, into in enumerate(INTO):
        recipient = {"a": 2, "b": 3}[into]
        differing = side(recipient, 1) - side(recipient, -1)
        scale = float(d.square().sum())
        assert found.along[0, 0, place] == pytest.approx(float((differing * d).sum()), rel=1e-3, abs=1e-6 * scale)
        assert found.size[0, 0, place] == pytest.approx(float(differing.square().sum()), rel=1e-3, abs=1e-9 * scale)
    if strength == 0:
        assert (found.along == 0).all() and (found.size == 0).all()


def assert_close(found: Moved, expected: Moved, rtol=1e-4, changed=()):
    for field in fields(Moved):
        if field.name not in changed:
            scale = np.abs(getattr(expected, field.name)).max()
            np.testing.assert_allclose(
                getattr(found, field.name), getattr(expected, field.name), rtol=rtol, atol=rtol * scale
            )


@pytest.mark.parametrize("size", [1, 5, 13])
def test_batches_of_any_size_give_the_same(tiny, opened, photos, size):
    doses = Doses(sets(tiny, 5), np.array([1.0, 0.5, 1.0, 0.25, 1.0]))
    expected = patch(opened(prompts(photos), 2), tiny.groups, doses, INTO)
    found = patch(opened(prompts(photos), size), tiny.groups, doses, INTO)
    assert_close(found, expected)
    assert found.along.shape == found.size.shape == (1, 5, 2)


def test_one_direction_is_what_it_is_among_both(tiny, opened, photos):
    doses = Doses.whole(sets(tiny))
    both = patch(opened(prompts(photos)), tiny.groups, doses, INTO)
    for place, into in enumerate(INTO):
        found = patch(opened(prompts(photos)), tiny.groups, doses, (into,))
        np.testing.assert_allclose(found.along[..., 0], both.along[..., place], rtol=1e-4)
    assert not np.allclose(both.along[..., 0], both.along[..., 1], rtol=1e-3)


def test_exchanging_the_donors_labels_changes_the_sign_and_nothing_else(tiny, opened, stimuli):
    """This makes sign flips of donors an exact null."""
    doses = Doses(sets(tiny, 4), np.array([1.0, 0.75, 0.25, 1.0]))
    found = patch(opened(stimuli), tiny.groups, doses, INTO)
    a, b, *own = stimuli
    swapped = patch(opened([b, a, *own]), tiny.groups, doses, INTO)
    assert_close(swapped, found, changed=("along", "foreign"))
    scale = np.abs(found.along).max()
    np.testing.assert_allclose(swapped.along, -found.along, rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_allclose(swapped.foreign, -found.foreign, rtol=1e-5)


def test_exchanging_the_recipients_labels_exchanges_the_passes_and_the_sign(tiny, opened, photos):
    doses = Doses.whole(sets(tiny, 2))
    found = patch(opened(prompts(photos)), tiny.groups, doses, INTO)
    *donor, a, b = prompts(photos)
    swapped = patch(opened([*donor, b, a]), tiny.groups, doses, INTO)
    np.testing.assert_allclose(swapped.along, -found.along[..., ::-1], rtol=1e-4)
    np.testing.assert_allclose(swapped.size, found.size[..., ::-1], rtol=1e-4)


def test_what_units_write_is_their_part_of_the_output_projection(tiny, opened, stimuli):
    passes = opened(stimuli)
    told = []
    found = written(passes, 2, lambda *of: told.append(of))
    assert found.shape == (2, len(tiny.groups.units)) and found.dtype == np.float64 and told == [(1, 2), (2, 2)]
    for pair in range(2):
        _, kept = passes.keeping([2 * pair, 2 * pair + 1])
        expected = []
        for unit in tiny.groups.units:
            number = [site.name for site in tiny.sites].index(unit.site)
            weight = tiny.loaded.transformer.get_submodule(unit.site).weight[:, unit.start : unit.stop]
            a, b = kept[number][..., unit.start : unit.stop]
            expected.append(float(((a - b) @ weight.T).norm()))
        np.testing.assert_allclose(found[pair], expected, rtol=1e-3, atol=1e-5)


def test_components_that_take_turns_give_the_same(tiny, opened, photos):
    """What is kept of a pass then lies in the host's memory."""
    doses, stimuli = Doses(sets(tiny), np.array([1.0, 0.5, 1.0])), prompts_beside_images(photos)
    expected, wrote = patch(opened(stimuli), tiny.groups, doses, INTO), written(opened(stimuli), 2)
    turning = load_model(tiny.source, "cpu", "float32", turns=True)
    with WholePasses(turning, tiny.sites, stimuli, tiny.protocol) as passes:
        assert_close(patch(passes, tiny.groups, doses, INTO), expected)
        np.testing.assert_allclose(written(passes, 2), wrote, rtol=1e-4, atol=1e-6)


def test_no_change_is_left_behind(tiny, opened, photos):
    passes = opened(prompts(photos))
    before = passes([2])
    patch(passes, tiny.groups, all_and_none(tiny), INTO)
    written(passes, 2)
    assert torch.equal(passes([2]), before)

"""Hooks that change what enters chosen units on chosen rows, beside hooks written by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.activations.interventions import (
    channels_of,
    joined,
    mean_ablated,
    patched,
    resample_ablated,
    scaled,
    steered,
)
from fixtures.activations.presentation import Stimulus
from fixtures.activations.whole_passes import WholePasses
from fixtures.models.flux2_klein.tokens import TokenLayout
from fixtures.models.hooks.interventions import Change, Interventions, token_rows
from fixtures.models.units import CELL_GROUPS, TOKEN_GROUPS, Site, attention_heads, channel_groups

PROMPTS = ("A glass on a table.", "Two men and a dog in the street", "x")
LAYOUTS = st.builds(TokenLayout, st.integers(1, 9), st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(0, 5))


@pytest.fixture
def passes(tiny, photos):
    """Whole passes of three prompts, each beside an image of its own."""
    stimuli = [Stimulus(prompt, prompt, photo) for prompt, photo in zip(PROMPTS, photos, strict=False)]
    with WholePasses(tiny.loaded, tiny.sites, stimuli, tiny.protocol) as found:
        yield found


@pytest.fixture
def units(tiny):
    """A third of the units, of every site, and their channels."""
    chosen = np.random.default_rng(0).random(len(tiny.groups.units)) < 1 / 3
    channels = channels_of(chosen, tiny.groups, tiny.sites)
    assert len(channels) == len(tiny.sites)
    return chosen, channels


def by_hand(passes, numbers, channels, change):
    """The prediction where hooks written by hand replace the channels on noise and reference rows by what ``change``
    makes of the number of the site and what they had."""

    def hook(number, site):
        first = 0 if site.stream == "image" else passes.protocol.text_length

        def write(module, arguments):
            hidden = arguments[0].clone()
            hidden[:, first:, channels[number]] = change(number, hidden[:, first:, channels[number]])
            return (hidden,)

        return write

    handles = [
        passes.loaded.transformer.get_submodule(site.name).register_forward_pre_hook(hook(number, site))
        for number, site in enumerate(passes.sites)
        if number in channels
    ]
    try:
        return passes(numbers)
    finally:
        for handle in handles:
            handle.remove()


# rows


@given(
    LAYOUTS,
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.lists(st.sampled_from(TOKEN_GROUPS), min_size=1, unique=True),
)
def test_rows_are_those_of_the_token_groups(layout, prompt_tokens, groups):
    """And refused where they differ between stimuli."""
    expected = {
        stream: [np.flatnonzero([CELL_GROUPS[cell] in groups for cell in row]).tolist() for row in cells]
        for stream, cells in layout.cells(prompt_tokens).items()
    }
    if any(row != rows[0] for rows in expected.values() for row in rows):
        with pytest.raises(ValueError, match="rows differ between stimuli whose prompts differ in length"):
            token_rows(layout, prompt_tokens, "cpu", groups)
        return
    for stream, rows in token_rows(layout, prompt_tokens, "cpu", groups).items():
        n_rows = layout.cells(prompt_tokens)[stream].shape[1]
        assert torch.arange(n_rows)[rows].tolist() == expected[stream][0]


def test_noise_and_reference_rows_do_not_depend_on_the_prompt():
    layout = TokenLayout(6, (2, 2), 3)
    assert token_rows(layout, [2, 5], "cpu") == {"image": slice(0, 7), "text+image": slice(6, 13)}
    with pytest.raises(ValueError, match="prompt"):
        token_rows(layout, [2, 5], "cpu", ("prompt",))
    assert token_rows(layout, [2, 2], "cpu", ("prompt",))["text+image"] == slice(0, 2)
    apart = token_rows(layout, [2, 2], "cpu", ("prompt", "reference"))
    assert apart["text+image"].tolist() == [0, 1, 10, 11, 12] and apart["image"] == slice(4, 7)
    with pytest.raises(ValueError, match="'noises'"):
        token_rows(layout, [2], "cpu", ("noises",))


# units


@settings(deadline=None)
@given(st.data(), st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=4))
def test_channels_are_those_of_the_units_in_both_partitions(data, sizes):
    sites = tuple(
        Site(f"site{number}", f"block{number}", "image", 32 * heads + 16 * mlp, 32 * heads, 32)
        for number, (heads, mlp) in enumerate(sizes)
    )
    for partition in (channel_groups(sites), attention_heads(sites)):
        n_units = len(partition.units)
        chosen = np.array(data.draw(st.lists(st.booleans(), min_size=n_units, max_size=n_units)), dtype=bool)
        expected = {}
        for unit, is_chosen in zip(partition.units, chosen, strict=True):
            if is_chosen:
                expected.setdefault(int(unit.site[4:]), []).extend(range(unit.start, unit.stop))
        found = channels_of(chosen, partition, sites)
        assert {site: own.tolist() for site, own in found.items()} == expected
        with pytest.raises(ValueError, match=f"expected {n_units} of them"):
            channels_of(np.append(chosen, True), partition, sites)


# changes


def test_nothing_changed_is_bit_equal_and_no_site_is_given_anything(tiny, passes):
    given = []
    modules = [tiny.loaded.transformer.get_submodule(site.name) for site in tiny.sites]
    inputs, _ = passes.passes.inputs([passes.text[PROMPTS[0]]], [passes.images[passes.stimuli[0].reference]])
    with torch.inference_mode():
        plain = passes.passes.read(tiny.loaded.transformer(**inputs))
    hooks = {module: list(module._forward_pre_hooks.values()) for module in modules}
    assert all(len(own) == 1 for own in hooks.values())
    for module, (own,) in hooks.items():
        key = next(iter(module._forward_pre_hooks))
        module._forward_pre_hooks[key] = lambda *of, own=own: given.append(own(*of))
    assert torch.equal(passes([0]), plain)
    assert given == [None] * len(tiny.sites)


def test_hooks_are_gone_after_it(tiny, photos):
    with WholePasses(tiny.loaded, tiny.sites, [Stimulus("x", "x")], tiny.protocol) as passes:
        passes([0])
    assert not any(tiny.loaded.transformer.get_submodule(site.name)._forward_pre_hooks for site in tiny.sites)


@pytest.mark.parametrize("kind", ["patch", "patch one into all", "scale", "zero", "mean", "resample", "steer"])
def test_a_change_equals_a_hook_written_by_hand(passes, units, kind):
    _, channels = units
    _, kept = passes.keeping([0, 1, 2] if kind == "resample" else [1, 2, 0])
    mean = {site: values.mean(dim=0, keepdim=True) for site, values in kept.items()}
    one = {site: values[:1] for site, values in kept.items()}
    source = torch.tensor([0, 1, 2])
    made, change = {
        "patch": lambda: (patched(channels, kept), lambda site, own: kept[site][..., channels[site]]),
        "patch one into all": lambda: (patched(channels, one), lambda site, own: one[site][..., channels[site]]),
        "scale": lambda: (scaled(channels, 1.7), lambda site, own: own * 1.7),
        "zero": lambda: (scaled(channels, 0), lambda site, own: torch.zeros_like(own)),
        "mean": lambda: (mean_ablated(channels, kept), lambda site, own: mean[site][..., channels[site]]),
        "resample": lambda: (
            resample_ablated(channels, kept, 4),
            lambda site, own: kept[site][source][..., channels[site]],
        ),
        "steer": lambda: (steered(channels, mean, 0.3), lambda site, own: own + 0.3 * mean[site][..., channels[site]]),
    }[kind]()
    if kind == "resample":  # which other one each takes is drawn; none takes its own
        shift = made[0][0].shift
        source = torch.tensor([int((kept[0][..., channels[0]] == row).all(dim=(1, 2)).nonzero()) for row in shift])
        assert sorted(source.tolist()) == [0, 1, 2] and not (source == torch.arange(3)).any()
    found = passes([0, 1, 2], made)
    assert torch.equal(found, by_hand(passes, [0, 1, 2], channels, change))
    assert not torch.equal(found, passes([0, 1, 2]))


def test_resampling_takes_from_another_and_needs_two(units):
    _, channels = units
    for number in range(2, 6):
        kept = {site: torch.arange(number * 1.0)[:, None, None].expand(-1, 2, 512) for site in channels}
        for seed in range(20):
            source = resample_ablated(channels, kept, seed)[0][0].shift[:, 0, 0].int()
            assert sorted(source.tolist()) == list(range(number)) and not (source == torch.arange(number)).any()
    with pytest.raises(ValueError, match="at least 2 stimuli"):
        resample_ablated(channels, {site: values[:1] for site, values in kept.items()}, 0)


def entering(passes, numbers, changes):
    """What enters every site in the end, all rows."""
    found = {}

    def look(module, arguments):
        found[names[module]] = arguments[0].clone()

    modules = [passes.loaded.transformer.get_submodule(site.name) for site in passes.sites]
    names = {module: number for number, module in enumerate(modules)}
    handles = [module.register_forward_pre_hook(look) for module in modules]
    try:
        passes(numbers, changes)
    finally:
        for handle in handles:
            handle.remove()
    return found


def test_rows_and_channels_outside_stay_as_they_were(tiny, passes):
    """At the last site, to which nothing comes but what is changed there."""
    last = len(tiny.sites) - 1
    channels = {last: torch.tensor([3, 40, 200])}
    before, after = entering(passes, [0, 1], {}), entering(passes, [0, 1], scaled(channels, 3.0))
    for site in range(last):
        assert torch.equal(before[site], after[site])
    changed = (before[last] != after[last]).nonzero()
    assert set(changed[:, 2].tolist()) == {3, 40, 200} and changed[:, 1].min() == tiny.protocol.text_length
    assert torch.equal(
        after[last][:, tiny.protocol.text_length :, 40], 3 * before[last][:, tiny.protocol.text_length :, 40]
    )


def test_text_rows_are_changed_where_they_are_asked_for(tiny, passes):
    """Rows that do not lie together, too."""
    transformer, last = tiny.loaded.transformer, len(tiny.sites) - 1
    inputs, layout = passes.passes.inputs([passes.text["x"]] * 2, [passes.images[passes.stimuli[2].reference]] * 2)
    rows = token_rows(layout, [passes.tokens["x"]] * 2, "cpu", ("prompt", "noise"))
    assert isinstance(rows["text+image"], torch.Tensor)
    seen = []
    with Interventions(transformer, tiny.sites, rows, scaled({last: torch.tensor([5])}, 0, slice(1, 2))):
        module = transformer.get_submodule(tiny.sites[last].name)
        handle = module.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].clone()))
        transformer(**inputs)
        handle.remove()
    zero = (seen[0][1, :, 5] == 0).nonzero().flatten()
    assert zero.tolist() == rows["text+image"].tolist() and (seen[0][0] != 0).all()


def test_changes_of_parts_of_a_batch_are_those_of_each(passes, units):
    _, channels = units
    _, kept = passes.keeping([2])
    first, third = scaled(channels, 0.5, slice(0, 1)), patched(channels, kept, slice(2, 3))
    found = passes([0, 1, 1], joined([first, third]))
    for place, own in ((0, first), (2, third)):
        assert torch.equal(found[place], passes([0, 1, 1], own)[place])
    assert torch.equal(found[1], passes([0, 1, 1])[1]) and not torch.equal(found[1], found[2])


def test_two_changes_of_one_site_are_made_one_after_the_other(passes, units):
    _, channels = units
    twice = joined([scaled(channels, 2.0), steered(channels, {site: torch.ones(1, 1, 512) for site in channels}, 1.0)])
    assert torch.equal(passes([0], twice), by_hand(passes, [0], channels, lambda site, own: own * 2.0 + 1.0))


def test_what_is_kept_is_what_would_have_entered(tiny, passes):
    predicted, kept = passes.keeping([0, 1])
    assert torch.equal(predicted, passes([0, 1])) and list(kept) == list(range(len(tiny.sites)))
    for number, values in entering(passes, [0, 1], {}).items():
        first = 0 if tiny.sites[number].stream == "image" else tiny.protocol.text_length
        assert torch.equal(values[:, first:], kept[number])


def test_what_is_kept_is_from_before_the_change(tiny, passes):
    kept, last = {}, len(tiny.sites) - 1
    _, plain = passes.keeping([0])
    passes.hooks.changes, passes.hooks.keep = scaled({last: torch.arange(512)}, 0), kept.__setitem__
    inputs, _ = passes.passes.inputs([passes.text[PROMPTS[0]]], [passes.images[passes.stimuli[0].reference]])
    passes.loaded.transformer(**inputs)
    assert torch.equal(kept[last], plain[last])


def test_changes_of_each_step_of_a_pipeline_call_equal_a_hook_written_by_hand(tiny, units):
    """A function of the number of the pass: the first of three steps is left alone, the others are scaled apart."""
    _, channels = units
    steps, factors = 3, (None, 0.5, 2.0)

    def image():
        generator = torch.Generator().manual_seed(0)
        return tiny.pipeline(
            prompt="A glass on a table.",
            height=64,
            width=64,
            num_inference_steps=steps,
            guidance_scale=1.0,
            max_sequence_length=tiny.protocol.text_length,
            generator=generator,
            output_type="latent",
        ).images

    noise = (64 // 16) ** 2
    rows = {"image": slice(0, noise), "text+image": slice(tiny.protocol.text_length, tiny.protocol.text_length + noise)}
    asked = []

    def changes(number):
        asked.append(number)
        return {} if factors[number] is None else scaled(channels, factors[number])

    with Interventions(tiny.loaded.transformer, tiny.sites, rows, changes) as hooks:
        found = image()
    assert hooks.passes == steps and sorted(set(asked)) == [0, 1, 2] and len(asked) == steps * len(tiny.sites)

    calls = dict.fromkeys(range(len(tiny.sites)), 0)

    def hook(number, site):
        def write(module, arguments):
            factor, calls[number] = factors[calls[number]], calls[number] + 1
            if factor is None:
                return None
            hidden = arguments[0].clone()
            hidden[:, rows[site.stream], channels[number]] *= factor
            return (hidden,)

        return write

    handles = [
        tiny.loaded.transformer.get_submodule(site.name).register_forward_pre_hook(hook(number, site))
        for number, site in enumerate(tiny.sites)
    ]
    expected = image()
    for handle in handles:
        handle.remove()
    assert torch.equal(found, expected) and not torch.equal(found, image())


def test_a_change_keeps_the_dtype_of_what_it_changes():
    own, shift = torch.ones(1, 2, 3, dtype=torch.bfloat16), torch.full((1, 2, 3), 0.5)
    for scale in (0.0, 1.0, 2.0):
        for added in (shift, lambda: shift):
            found = own.clone()
            Change(torch.arange(3), scale, added).write(found)
            assert found.dtype == torch.bfloat16 and torch.equal(found.float(), torch.full((1, 2, 3), scale + 0.5))
    found = own.clone()
    Change(torch.arange(1, 3), 0.0).write(found)
    assert torch.equal(found, torch.tensor([1.0, 0, 0], dtype=torch.bfloat16).expand(1, 2, 3))


def test_passes_in_batches_of_any_size_agree(tiny, passes):
    together = passes([0, 1, 2])
    for number in range(3):
        torch.testing.assert_close(passes([number])[0], together[number], rtol=1e-4, atol=1e-5)
    other = replace(tiny.protocol, seed=1)
    with WholePasses(tiny.loaded, tiny.sites, passes.stimuli, other) as again:
        assert not torch.allclose(again([0])[0], together[0], atol=1e-2)

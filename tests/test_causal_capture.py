"""Causal measurements of a set, through the store."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from fixtures.activations import causal
from fixtures.activations.causal import Causal
from fixtures.activations.patching import INTO, Doses, Moved, patch
from fixtures.activations.presentation import Stimulus
from fixtures.activations.segments import Captures
from fixtures.activations.store import Store
from fixtures.activations.whole_passes import WholePasses
from fixtures.common.errors import OutOfMemory
from fixtures.models.model import Model

JOBS = [(0, 1), (2, 0), (1, 2)]
WORDS = ("cat", "dog", "blue", "table", "wolf", "seven")


def shown_of(template="a {} and nothing"):
    prompts = [template.format(word) for word in WORDS]
    return [(Stimulus(prompt, prompt), None) for prompt in prompts]


@pytest.fixture
def model(tiny, tmp_path):
    """klein-tiny under a small protocol of the test's own, which it may change."""
    own = Model(replace(tiny.settings, store=tmp_path))
    own.__dict__.update(source=tiny.source, loaded=tiny.loaded)
    own.__dict__["protocol"] = replace(tiny.protocol, text_length=32, batch_size=5, text_batch_size=5)
    return own


@pytest.fixture
def measured(model, tmp_path):
    """Causal measurements of three pairs."""
    captures = Captures("toy", model, Store(tmp_path / "store"), lambda what: lambda done, total: None)
    return Causal("toy", captures, shown_of())


@pytest.fixture
def doses(model):
    units = np.random.default_rng(0).random((2, len(model.groups.units))) < 0.3
    return Doses(units, np.array([1.0, 0.5]))


@pytest.fixture
def computed(monkeypatch):
    """How often something was computed, by the stimuli's prompts."""
    calls = []

    def counted(function):
        def count(passes, *arguments, **options):
            calls.append(tuple(stimulus.prompt for stimulus in passes.stimuli))
            return function(passes, *arguments, **options)

        return count

    monkeypatch.setattr(causal, "patch", counted(causal.patch))
    monkeypatch.setattr(causal, "written", counted(causal.written))
    return calls


def arrays(moved: Moved):
    return [getattr(moved, field.name) for field in fields(Moved)]


def assert_same(found, expected):
    for one, other in zip(arrays(found), arrays(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_was_computed_is_taken_from_the_store(measured, doses, computed):
    first, wrote = measured.moved(JOBS, doses, INTO), measured.written([0, 1])
    assert len(computed) == len(JOBS) + 1
    assert_same(measured.moved(JOBS, doses, INTO), first)
    np.testing.assert_array_equal(measured.written([0, 1]), wrote)
    assert_same(measured.moved(JOBS[:1], doses, INTO), Moved(*(values[:1] for values in arrays(first))))
    assert len(computed) == len(JOBS) + 1
    assert first.along.shape == (3, 2, 2) and first.wanted.shape == first.whole.shape == first.foreign.shape == (3,)
    assert wrote.shape == (2, len(measured.model.groups.units))


def test_jobs_do_not_depend_on_which_others_are_asked_for(measured, model, doses, tmp_path):
    together = measured.moved(JOBS, doses)
    for number, job in enumerate(JOBS):
        captures = Captures("toy", model, Store(tmp_path / str(job)), lambda what: lambda done, total: None)
        alone = Causal("toy", captures, shown_of()).moved([job], doses)
        assert_same(alone, Moved(*(values[number : number + 1] for values in arrays(together))))
    again = measured.moved([JOBS[2], JOBS[0], JOBS[2]], doses)
    assert_same(again, Moved(*(values[[2, 0, 2]] for values in arrays(together))))


def test_a_job_is_what_patching_its_four_stimuli_gives(measured, model, doses):
    found = measured.moved([(0, 2)], doses, INTO)
    stimuli = [shown_of()[number][0] for number in (0, 1, 4, 5)]  # A and B of the donor, then of the recipient
    with WholePasses(model.loaded, model.sites, stimuli, model.protocol) as passes:
        assert_same(found, patch(passes, model.groups, doses, INTO))


PLACEBO = [(Stimulus(prompt, prompt), None) for prompt in ("u", "v w", "x y", "z", "k", "l m")]


@pytest.mark.parametrize(
    "changed",
    [
        {"doses": "units"},
        {"doses": "strength"},
        {"seed": 1},
        {"twin": ("shuffled", 0)},
        {"twin": ("re-initialised", 0)},
        {"twin": ("shuffled", 1)},
        {"into": ("a",)},
        {"into": INTO},
        {"placebo": PLACEBO},
    ],
    ids=str,
)
def test_whatever_changes_the_result_is_computed_apart(measured, doses, computed, changed):
    first = measured.moved(JOBS[:1], doses)
    others = {
        "units": Doses(~doses.units, doses.strength),
        "strength": Doses(doses.units, doses.strength[::-1].copy()),
    }
    options = {"doses": doses} | {name: others[value] if name == "doses" else value for name, value in changed.items()}
    other = measured.moved(JOBS[:1], **options)
    assert len(computed) == 2 and not np.array_equal(other.along, first.along)
    assert_same(measured.moved(JOBS[:1], doses), first)
    assert_same(measured.moved(JOBS[:1], **options), other)
    assert len(computed) == 2


def test_the_runs_own_noise_by_its_number_is_the_same_key(measured, doses, computed):
    first = measured.moved(JOBS[:1], doses)
    assert_same(measured.moved(JOBS[:1], doses, seed=measured.noise_seed), first)
    assert len(computed) == 1


def test_sets_of_units_with_the_same_bits_in_another_shape_are_told_apart(measured, computed):
    """144 units are packed into 18 bytes: two sets and one of twice as many would have the same ones."""
    n_units = len(measured.model.groups.units)
    one = np.zeros((1, n_units), dtype=bool)
    one[0, :3] = True
    measured.moved(JOBS[:1], Doses.whole(one))
    measured.moved(JOBS[:1], Doses.whole(np.vstack([one, one])))
    assert len(computed) == 2


def test_a_placebo_gives_to_the_concepts_recipient(measured, model, doses):
    found = measured.moved([(1, 2)], doses, placebo=PLACEBO)
    stimuli = [PLACEBO[2][0], PLACEBO[3][0], shown_of()[4][0], shown_of()[5][0]]
    with WholePasses(model.loaded, model.sites, stimuli, model.protocol) as passes:
        assert_same(found, patch(passes, model.groups, doses))
    with pytest.raises(IndexError):
        measured.moved([(1, 2)], doses, placebo=[])  # not the concept in its place


def test_a_twin_is_the_network_that_is_patched(measured, model, doses):
    found = measured.moved([(0, 1)], doses, twin=("shuffled", 2))
    stimuli = [stimulus for stimulus, _ in shown_of()[:4]]
    with WholePasses(model.twin("shuffled", 2), model.sites, stimuli, model.protocol) as passes:
        assert_same(found, patch(passes, model.groups, doses))
    assert not np.allclose(measured.written([0, 1], ("shuffled", 2)), measured.written([0, 1]), rtol=0.01)


@pytest.mark.parametrize("size", [1, 5])
def test_batches_of_any_size_give_the_same_and_are_told_apart(measured, model, doses, computed, size):
    model.protocol = replace(model.protocol, batch_size=10)
    expected = measured.moved(JOBS[:1], doses, INTO)
    model.protocol = replace(model.protocol, batch_size=size)
    found = measured.moved(JOBS[:1], doses, INTO)
    assert len(computed) == 2
    for one, other in zip(arrays(found), arrays(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6 * np.abs(other).max())


def test_labels_of_a_donor_can_be_exchanged(measured, model, doses, tmp_path):
    """The set's order decides which is A: exchanging it in the donor changes the sign, and the key."""
    shown = shown_of()
    shown[0], shown[1] = shown[1], shown[0]
    swapped = Causal("toy", measured.captures, shown)
    for job, sign in (((0, 1), -1), ((1, 2), 1)):
        found, expected = swapped.moved([job], doses), measured.moved([job], doses)
        np.testing.assert_allclose(found.along, sign * expected.along, rtol=1e-3)
        np.testing.assert_allclose(found.size, expected.size, rtol=1e-3)


def test_out_of_memory_halves_batches_and_goes_on(measured, model, doses, monkeypatch):
    """What the smaller batches gave is stored under their own protocol."""
    expected = measured.moved(JOBS, doses)
    sizes, forward = [], type(model.loaded.transformer).forward

    def small(self, *arguments, **options):
        sizes.append(len(options["hidden_states"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("no memory")
        return forward(self, *arguments, **options)

    model.protocol = replace(model.protocol, batch_size=8, text_batch_size=8)
    told = []
    model.notify = told.append
    monkeypatch.setattr(type(model.loaded.transformer), "forward", small)
    found = measured.moved(JOBS, doses)
    assert model.protocol.batch_size < 8 and max(sizes) == 4 and any("out of memory" in line for line in told)
    for one, other in zip(arrays(found), arrays(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6 * np.abs(other).max())


def test_out_of_memory_in_the_smallest_batches_is_an_error(measured, model, doses, monkeypatch):
    def none(self, *arguments, **options):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(type(model.loaded.transformer), "forward", none)
    with pytest.raises(OutOfMemory, match="out of memory on cpu"):
        measured.moved(JOBS[:1], doses)
    assert model.protocol.batch_size == 1


def test_out_of_memory_of_attribution_leaves_the_batches_as_they_are(measured, model, monkeypatch):
    """It takes one stimulus at a time."""

    def none(*arguments):
        raise torch.OutOfMemoryError("no memory")

    model.protocol = replace(model.protocol, batch_size=8)
    monkeypatch.setattr("fixtures.activations.causal.attribution", none)
    with pytest.raises(OutOfMemory, match="out of memory on cpu"):
        measured.attribution([0], [1])
    assert model.protocol.batch_size == 8


def test_progress_says_what_is_done(model, doses, tmp_path):
    said = []

    def progress(what):
        return lambda done, total: said.append((what, done, total))

    measured = Causal("toy", Captures("toy", model, Store(tmp_path / "store"), progress), shown_of())
    measured.moved(JOBS, doses, twin=("shuffled", 0))
    what = "patching 2 sets of units of toy, shuffled twin 0"
    assert said == [(what, number, 3) for number in (1, 2, 3)]
    measured.moved(JOBS, doses, twin=("shuffled", 0))
    assert len(said) == 3
    measured.written([0, 1])
    assert said[3:] == [("what units write of toy", number, 2) for number in (1, 2)]

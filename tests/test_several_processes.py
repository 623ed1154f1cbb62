"""What several processes make of the nightly job, on a clock of its own: with Klein's costs, nobody may wait long."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from virtual_time import VirtualTime

import fixtures.activations.images
import fixtures.common.sharing
from fixtures.activations.activations import Activations
from fixtures.activations.image_manifest import ImageFile
from fixtures.activations.inputs import Inputs, Matched
from fixtures.activations.measurement import Measurement
from fixtures.claims.hypothesis import Hypothesis
from fixtures.claims.ladder import OBSERVED
from fixtures.common.files import sha256_of
from fixtures.common.workers import Shard
from fixtures.models.model import DEFAULT_BATCH_SIZE
from fixtures.models.protocol import Protocol
from fixtures.session.capture_only import fill
from fixtures.stimuli.sets import load_stimuli

ROOT = Path(__file__).parents[1]
SETS = sorted(file.stem for file in (ROOT / "stimuli").glob("*.toml"))
# seconds on an H200 at Klein's geometry
GENERATED, PROMPT, PICTURE, INPUT, MATCHED = 2.3, 0.084, 0.177, 0.01, 4.0


class Job:
    """Everything that processes share, in memory; what takes a device takes virtual time instead."""

    def __init__(self, clock: VirtualTime):
        self.clock, self.stored, self.images = clock, {}, {}

    def run(self, shared: bool) -> SimpleNamespace:
        """A process's `fixtures.session.run.Run`, as far as `fill` asks for it."""
        protocol = Protocol("cuda", "bfloat16", DEFAULT_BATCH_SIZE["cuda"])
        model = SimpleNamespace(
            protocol=protocol,
            settings=SimpleNamespace(save_baseline=None, steps=None),
            source=SimpleNamespace(slug="klein", fingerprint="f", name="klein", refuse=lambda what: None),
            sites=[],
            twins=3,
            lock=nullcontext(),
            is_stored=False,
            loaded=None,
            vocabulary=SimpleNamespace(encode=lambda prompt: (prompt,)),
            notify=print,
        )
        store = SimpleNamespace(folder=Path("store"), fill=self.fill, get_all=self.get_all)

        def measurement(hypothesis: Hypothesis) -> Measurement:
            stimuli = load_stimuli(ROOT / "stimuli" / hypothesis.stimuli_file)
            found = Measurement(stimuli, model, store, Path("images"), lambda what: lambda *done: None, None, shared)
            found.set_images.inventory = SimpleNamespace(remember_images=lambda *known: None)
            found.set_images.confounds = lambda images: None
            return found

        return SimpleNamespace(measurement=measurement, remember=lambda: None)

    def fill(self, keys, compute, refresh, made_with, kind=Activations, group=1) -> None:
        names = [sha256_of(key) for key in keys]

        def work(numbers: list[int]) -> None:
            for number in numbers:  # stored one by one
                self.clock.work(seconds(keys[number]))
                self.stored[names[number]] = True

        fixtures.common.sharing.share(
            range(len(keys)), names.__getitem__, lambda n: names[n] in self.stored, work, ValueError, group
        )

    def get_all(self, keys, compute, refresh, made_with, kind=Activations, group=1, hold=lambda value, entry: value):
        self.fill(keys, compute, refresh, made_with, kind, group)
        values = [hold(value(kind, len(key.get("stimuli", ()))), None) for key in keys]
        return values, [{"created": "", "made_with": None, "from_store": True}] * len(keys)

    def manifest(self, folder: Path, *about) -> SimpleNamespace:
        """A `fixtures.activations.image_manifest.Manifest`."""

        def has(request) -> bool:
            return (folder, request.name) in self.images

        def image(request) -> ImageFile:
            return self.images[folder, request.name]

        def add(requests, encoded, compiled) -> None:
            for request in requests:
                name = f"{folder.parent.name}/{folder.name}/{request.name}"
                self.images[folder, request.name] = ImageFile(folder / request.name, name, request.seed, pixels=name)

        return SimpleNamespace(
            has=has,
            image=image,
            add=add,
            lock_of=lambda batch: folder / batch[0].name,
            is_whole=lambda batch: all(map(has, batch)),
            unwritable=ValueError,
        )

    def generate(self, load, requests, texts, protocol, keep, lacking, progress, notify) -> None:
        for start in range(0, len(requests), protocol.batch_size):
            load()
            self.clock.work(GENERATED * protocol.batch_size)  # a batch is filled up
            keep(requests[start : start + protocol.batch_size], None, False)


def seconds(key: dict) -> float:
    """What an entry of the store takes."""
    if "change" in key:
        return MATCHED
    if "inputs_version" in key:
        return INPUT * len(key["stimuli"])
    return sum(PICTURE if stimulus["image_sha256"] else PROMPT for stimulus in key["stimuli"])


def value(kind, size: int):
    """Arrays in the place of a kind of entry."""
    if kind is Activations:
        return Activations(np.zeros((size, 1, 1), np.float32), np.ones((size, 1), np.int64))
    one = np.ones(max(size // 2, 25))
    return Inputs(one, one) if kind is Inputs else Matched(np.ones(1), one)


def played(count: int, patch) -> tuple[list[float], dict[int, float]]:
    """When each of so many processes is done with all sets, and how long it worked."""
    clock = VirtualTime()
    job = Job(clock)
    patch.setattr(fixtures.common.sharing, "locked", clock.locked)
    patch.setattr(fixtures.activations.images, "Manifest", job.manifest)
    patch.setattr(fixtures.activations.images, "generate", job.generate)
    patch.setattr(fixtures.activations.images, "count_prompt_tokens", lambda *asked: None)
    patch.setattr(fixtures.activations.images, "encode_prompts", lambda *asked: {})
    patch.setattr(
        fixtures.activations.images,
        "_looked_at",
        lambda images, *about: {
            name: image if image.pixels else ImageFile(image.path, str(image.path), None, str(image.path))
            for name, image in images.items()
        },
    )
    patch.setattr(fixtures.activations.images, "_checked", lambda member: str(member.image))
    wanted = [(Hypothesis(name, name, "", "a minus b", "a"), OBSERVED) for name in SETS]
    problems = []

    def process(index: int):
        def filled() -> None:
            problems.extend(fill(job.run(count > 1), wanted, Shard(index, count), problems.append))

        return filled

    ends = clock.run([process(index) for index in range(count)])
    assert not problems, problems
    return ends, clock.busy


@pytest.fixture(scope="module")
def alone():
    with pytest.MonkeyPatch.context() as patch:
        return played(1, patch)[0][0]


@pytest.mark.parametrize(("count", "least"), [(2, 0.95), (4, 0.95), (8, 0.9)])
def test_several_processes_hardly_wait_for_one_another(count, least, alone, monkeypatch):
    ends, busy = played(count, monkeypatch)
    assert sum(busy.values()) == pytest.approx(alone, rel=1e-3), "nothing is done twice"
    assert alone / (count * max(ends)) >= least, (ends, dict(busy))

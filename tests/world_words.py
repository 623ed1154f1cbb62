"""Reads captions of the drawn world: which scene and state a text describes. Shared by the tests of the world."""

import re
from random import Random

from hypothesis import strategies as st

from fixtures.klein_mini.world.captions import MANNERS, PLACES, STYLES
from fixtures.klein_mini.world.scene import WALLS, Scene, sample_scene
from fixtures.klein_mini.world.subjects import SUBJECTS

ALL = tuple(SUBJECTS.values())
seeds = st.integers(0, 2**32 - 1)


@st.composite
def scenes(draw, subjects=ALL):
    """A scene of any subject in any of its states."""
    subject = draw(st.sampled_from(subjects))
    return sample_scene(Random(draw(seeds)), subject, draw(st.sampled_from(subject.states)))


def plain(text: str) -> str:
    """Without what ``polish`` varies: capitals, full stop, spaces, and n of articles."""
    return re.sub(r"\ban\b", "a", re.sub(r"\s+", " ", text.lower()).strip().removesuffix("."))


def wordings(scene: Scene) -> list[str]:
    """The wordings of the scene's subject in its state, with its colour and without, the longest first."""
    written = scene.subject.after if scene.after else scene.subject.before
    return sorted((plain(w.replace("{c}", c)) for w in written for c in (scene.colour, "")), key=len, reverse=True)


def describes(text: str, scene: Scene) -> bool:
    """Whether a text is nothing but a wording of the scene with what else is true of that scene."""
    return any(_is_true_of(plain(text).replace(wording, "*"), scene) for wording in wordings(scene))


def _is_true_of(rest: str, scene: Scene) -> bool:
    if rest.count("*") != 1:
        return False
    parts = [rf"(, )?{plain(wall)} background" for wall in WALLS if wall == scene.wall]
    for place in PLACES[scene.surface]:
        parts += [rf"on a {place}( against a {plain(scene.wall)} wall)?"]
    parts += [rf"{plain(style)}(?= \*)" for style in STYLES] + [f", {plain(manner)}" for manner in MANNERS]
    parts += [f", lit from {'above' if scene.light == 'above' else 'the ' + scene.light}"]
    parts += [", close up"] * (scene.scale > 1) + [", far away"] * (scene.scale < 1.1)
    parts += [", on the left"] * (scene.x < 64) + [", on the right"] * (scene.x > 64)
    parts += [f", {'after' if scene.after else 'before'} the event", r", (?=\*)", r"\*", " "]
    return re.fullmatch(f"(?:{'|'.join(parts)})*", rest) is not None

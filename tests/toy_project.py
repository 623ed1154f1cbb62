"""A toy project for the tests of the plugin: one probe file, one stimulus file, klein-tiny.

The fixtures ``project`` and ``ladder`` of conftest.py write it into pytester's folder.
"""

import json

import numpy as np
from PIL import Image

STIMULI = """hypothesis = "toy"
presentation = "prompt_pairs"
a = "left"
b = "right"
"""
PAIR = '[[pairs]]\nid = "p{number}"\ncategory = "c"\na = "{a}"\nb = "{b}"\n'
PROBE = """
import pytest
from fixtures.claims import Exceedance, Hypothesis, SplitHalf

HYPOTHESIS = Hypothesis(id="toy", title="Toy", sentence="s", contrast="left minus right", positive="left")


@pytest.mark.claim(Exceedance(threshold=3.0, margin=1.01))
def test_supported(verdict):
    assert verdict.supported, verdict


@pytest.mark.claim(Exceedance(threshold=5.0, margin=47))
def test_refuted(verdict):
    assert verdict.supported, verdict
"""
CONTROL = """

def test_control(control):
    assert control.passed, control
"""
PLACEBO = PAIR.replace("[[pairs]]", "[[placebo]]").replace('"p{number}"', '"q{number}"')
IMAGES = """hypothesis = "toy"
presentation = "image_pairs"
prompt = "Describe."
image_seed = 3
a = "left"
b = "right"
placebo = ["seed", "brightness"]
"""


def pairs(count, a="a cat sits on the mat {number}", b="seven unrelated long words about machinery {number}"):
    return "".join(
        PAIR.format(number=number, a=a.format(number=number), b=b.format(number=number)) for number in range(count)
    )


def write(pytester, name, text):
    file = pytester.path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def run(project, *arguments, probes="probes"):
    return project.runpytest_inprocess("-p", "no:cacheprovider", probes, *arguments)


def results(project, folder="reports/latest"):
    return json.loads((project.path / folder / "results.json").read_text())


def claims(project, folder="reports/latest"):
    return {claim["test"].split("::")[1]: claim for claim in results(project, folder)["hypotheses"][0]["claims"]}


def controls(project, folder="reports/latest"):
    return {control["id"]: control for control in results(project, folder)["hypotheses"][0]["controls"]}


def folder(project):
    """The newest run, complete or not; of two in one second their names do not tell."""
    return max((project.path / "reports").glob("2*"), key=lambda found: found.stat().st_mtime_ns)


def entries(store):
    """What was captured into a store."""
    return sorted(file.name for file in store.glob("activations/*/*.safetensors"))


def noise(batch) -> list[Image.Image]:
    """Pictures in the place of those that the model would draw."""
    return [
        Image.fromarray(np.random.default_rng(request.seed).integers(0, 256, (64, 64, 3), np.uint8))
        for request in batch
    ]


def known(project, verdict, stimuli=None, **protocol):
    """Put a verdict on the claim at |t| > 5 on record, for the model of the last run."""
    weights = results(project)["model"]["weights_sha256"]
    listed = f'[model.stimuli]\ntoy = "{stimuli}"\n' if stimuli else ""
    text = f'[[model]]\nname = "klein-tiny"\nweights_sha256 = "{weights}"\n[model.protocol]\n'
    text += "".join(f"{name} = {value!r}\n" for name, value in protocol.items())
    write(project, "probes/known_verdicts.toml", text + listed + f'[model.verdicts.toy]\n"count_t5" = "{verdict}"\n')

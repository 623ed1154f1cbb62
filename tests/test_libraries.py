"""What a library leaves out with a warning is an error, however quiet the user has made it."""

import logging
import warnings

import pytest
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from fixtures.common.errors import ProbeError
from fixtures.models.libraries import LIBRARIES, nothing_ignored

LEFT_OUT = [  # as diffusers, transformers and peft write them
    "The config attributes {'x': 1} were passed to Flux2Transformer2DModel, but are not expected and will be ignored.",
    "Keyword arguments {'x': 1} are not expected by Flux2KleinPipeline and will be ignored.",
    "Some weights of the model checkpoint at x were not used when initializing Y: ['z']",
    "Some weights of Y were not initialized from the model checkpoint at x and are newly initialized: ['z']",
    "Unsupported keys for Kohya Flux2 LoRA conversion: ['x']",
    "Loading adapter weights from state_dict led to unexpected keys found in the model: x.",
    "Loading adapter weights from state_dict led to missing keys in the model: x.",
    "It seems like you are using a DoRA checkpoint that is not compatible in Diffusers at the moment.",
    "No LoRA keys associated to X found with the prefix='transformer'. This is safe to ignore if",
    "Unexpected keyword arguments ['x'] for class LoraConfig, these are ignored.",
    "Found missing adapter keys while loading the checkpoint: ['x'].",
    "Size mismatch for x",
]
HARMLESS = [
    "`torch_dtype` is deprecated! Use `dtype` instead!",
    "Flash attention is slower on this device.",
    "You are about to download 8 GB.",
]


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
@pytest.mark.parametrize("library", [f"{name}.some.module" for name in LIBRARIES])
@pytest.mark.parametrize("words", LEFT_OUT)
def test_a_logged_warning_is_an_error(library, level, words):
    with pytest.raises(ProbeError) as caught, nothing_ignored("x.safetensors"):
        logging.getLogger(library).log(level, words)
    assert str(caught.value).startswith(f"x.safetensors: not all of it would be used: {words}")


@pytest.mark.parametrize("words", LEFT_OUT)
def test_a_python_warning_is_an_error(words):
    with pytest.raises(ProbeError, match="not all of it would be used"), nothing_ignored("x"):
        warnings.warn_explicit(words, UserWarning, "/site-packages/peft/config.py", 1)


@pytest.mark.parametrize("words", HARMLESS)
def test_other_warnings_are_not_and_are_shown(words):
    with pytest.warns(FutureWarning) as shown, nothing_ignored("x"):
        logging.getLogger("diffusers.x").warning(words)
        warnings.warn(words, FutureWarning, stacklevel=1)
    assert [str(warning.message) for warning in shown] == [words]


@pytest.mark.parametrize("words", LEFT_OUT)
def test_what_other_packages_warn_of_is_theirs(words):
    with pytest.warns(UserWarning), nothing_ignored("x"):
        warnings.warn_explicit(words, UserWarning, "/site-packages/torch/cuda/__init__.py", 1)


def test_a_silenced_library_is_heard_and_left_as_it_was():
    for library in (diffusers_logging, transformers_logging):
        before = library.get_verbosity()
        try:
            library.set_verbosity_error()
            with pytest.raises(ProbeError), nothing_ignored("x"):
                library.get_logger(f"{library.__name__.split('.')[0]}.x").warning(LEFT_OUT[0])
            assert library.get_verbosity() == logging.ERROR
        finally:
            library.set_verbosity(before)


def test_an_error_inside_is_the_error():
    with pytest.raises(ZeroDivisionError), nothing_ignored("x"):
        logging.getLogger("peft.x").warning(LEFT_OUT[0])
        _ = 1 / 0
    assert not logging.getLogger("peft").handlers

"""The published way to capture, to compare with: a pipeline call with hooks that keep every activation."""

import torch
from PIL import Image

PROMPTS = ["A glass on a table.", "Describe what is depicted in this image.", "Two men and a dog in the street", "x"]


def hooked_pipeline_call(model, stimulus):
    """The published way: a whole pipeline call with hooks that keep every activation. RMS per channel group."""
    seen = {}
    handles = [
        model.pipeline.transformer.get_submodule(site.name).register_forward_pre_hook(
            lambda module, arguments, name=site.name: seen.__setitem__(name, arguments[0].double())
        )
        for site in model.sites
    ]
    try:
        model.pipeline(
            image=Image.open(stimulus.image) if stimulus.image else None,
            prompt=stimulus.prompt,
            height=model.protocol.resolution,
            width=model.protocol.resolution,
            num_inference_steps=1,
            guidance_scale=1.0,
            max_sequence_length=model.protocol.text_length,
            generator=torch.Generator().manual_seed(model.protocol.seed),
            output_type="latent",
        )
    finally:
        for handle in handles:
            handle.remove()
    rms = [seen[site.name].unflatten(-1, (-1, 16)).square().mean(dim=(0, 1, 3)).sqrt() for site in model.sites]
    return torch.cat(rms).cpu().numpy()

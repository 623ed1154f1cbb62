"""The published way to capture, to compare with: a pipeline call with hooks that keep every activation."""

import torch
from PIL import Image

PROMPTS = ["A glass on a table.", "Describe what is depicted in this image.", "Two men and a dog in the street", "x"]


def hooked_pipeline_call(model, stimulus, step=None):
    """The published way: a whole pipeline call with hooks that keep every activation. RMS per channel group. With a
    ``step``, from 1: the same in the conditional pass of that step of a generation as the protocol has it."""
    passes = {}
    handles = [
        model.pipeline.transformer.get_submodule(site.name).register_forward_pre_hook(
            lambda module, arguments, name=site.name: passes.setdefault(name, []).append(arguments[0].double())
        )
        for site in model.sites
    ]
    protocol = model.protocol
    steps, guidance = (protocol.generation_steps, protocol.generation_guidance) if step else (1, 1.0)
    try:
        model.pipeline(
            **({"image": Image.open(stimulus.image)} if stimulus.image else {}),
            prompt=stimulus.prompt,
            height=model.protocol.resolution,
            width=model.protocol.resolution,
            num_inference_steps=steps,
            guidance_scale=guidance,
            max_sequence_length=model.protocol.text_length,
            generator=torch.Generator().manual_seed(model.protocol.seed),
            output_type="latent",
        )
    finally:
        for handle in handles:
            handle.remove()
    number = (step - 1) * model.source.family.passes_per_step(model.pipeline, protocol) if step else 0
    seen = {name: found[number] for name, found in passes.items()}
    rms = [seen[site.name].unflatten(-1, (-1, 16)).square().mean(dim=(0, 1, 3)).sqrt() for site in model.sites]
    return torch.cat(rms).cpu().numpy()

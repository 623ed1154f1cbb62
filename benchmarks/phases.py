"""A pytest plugin that tells where a run's time goes: ``pytest -p benchmarks.phases probes/``.

Every phase is timed by a wrapper around the function that does it, without the phases that it calls; phases of two
threads overlap, so that their sum may be more than the run. The bare forward passes that a run makes, without hooks,
encoders or transfers, are timed at its end, as many of each kind: all else is told as a ratio to them.
"""

import statistics
import time
from collections import Counter
from functools import wraps
from importlib import import_module
from threading import get_ident

import torch

PHASES = (  # module, name in it, phase
    ("fixtures.models.model", "load_model", "loading the model"),
    ("fixtures.models.model", "untrained_twin", "making twins"),
    ("fixtures.activations.images", "generate", "drawing images"),
    ("fixtures.activations.capture", "encode_prompts", "text encoder"),
    ("fixtures.activations.capture", "ReferenceLatents._encode", "VAE encoder"),
    ("fixtures.activations.capture", "_Forward.__call__", "forward passes, hooked"),
    ("fixtures.activations.segments", "Captures.in_memory", "capture and store, the rest"),
    ("fixtures.session.ahead", "Ahead.take", "waiting for captures"),
    ("fixtures.session.run", "Run.measured", "statistics and controls"),
    ("fixtures.session.run", "Run.control", "statistics and controls"),
    ("fixtures.session.html_page", "claims_table_html", "page"),
    ("fixtures.session.html_page", "evidence_section", "page"),
    ("fixtures.session.reporter", "Reporter._write", "results.json"),
)
ROUNDS = 5


class Phases:
    """Seconds by phase, and how many forward passes there were of each kind (with an image or without)."""

    def __init__(self):
        self.started = time.perf_counter()
        self.seconds, self.passes, self.stacks, self.model = Counter(), Counter(), {}, None

    def wrap(self, module: str, path: str, phase: str) -> None:
        """Time one function; one that this version of the suite does not have is left out."""
        try:
            owner = import_module(module)
            *classes, name = path.split(".")
            for part in classes:
                owner = getattr(owner, part)
            inner = getattr(owner, name)
        except (ImportError, AttributeError):
            return

        @wraps(inner)
        def timed(*arguments, **options):
            stack = self.stacks.setdefault(get_ident(), [])
            before = time.perf_counter()
            if stack:
                self.seconds[stack[-1][0]] += before - stack[-1][1]
            stack.append([phase, before])
            try:
                return inner(*arguments, **options)
            finally:
                now = time.perf_counter()
                ended, since = stack.pop()
                self.seconds[ended] += now - since
                if stack:
                    stack[-1][1] = now
                if phase == "forward passes, hooked":
                    self.passes[arguments[1][0].image is not None] += 1

        setattr(owner, name, timed)

    def pytest_runtestloop(self):
        """Import the engine, which is a phase of its own, and wrap what it does."""
        began = time.perf_counter()
        run = import_module("fixtures.session.run").Run
        self.seconds["imports"] += time.perf_counter() - began
        for entry in PHASES:
            self.wrap(*entry)
        phases, inner = self, run.__init__

        @wraps(inner)
        def told(self, *arguments, **options):
            inner(self, *arguments, **options)
            phases.run = self

        run.__init__ = told

    def bare(self) -> float:
        """Seconds of as many bare forward passes as the run has made."""
        from benchmarks.capture_speed import bare_inputs

        total, model = 0.0, self.run.model
        for reference, passes in self.passes.items():
            inputs, seconds = bare_inputs(model, reference), []
            with torch.inference_mode():
                for _ in range(ROUNDS):
                    began = time.perf_counter()
                    model.pipeline.transformer(**inputs)
                    if torch.cuda.is_available():
                        torch.cuda.synchronize()
                    seconds.append(time.perf_counter() - began)
            total += passes * statistics.median(seconds)
        return total

    def pytest_unconfigure(self):
        whole, bare = time.perf_counter() - self.started, self.bare() if self.passes else 0.0
        print(f"{sum(self.passes.values())} forward passes; bare {bare:.1f} s")
        for phase, seconds in [*self.seconds.most_common(), ("whole run", whole)]:
            ratio = f"{seconds / bare:7.2f}" if bare else "      -"
            print(f"  {phase:<28} {seconds:7.1f} s {ratio}")


def pytest_configure(config):
    config.pluginmanager.register(Phases(), "phases")

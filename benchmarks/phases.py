"""A pytest plugin that tells where a run's time goes: ``pytest -p benchmarks.phases probes/``.

Every phase is timed by a wrapper around the function that does it, without the phases that it calls. Phases of two
threads overlap, so that their sum may be more than the run; what a GPU is at is waited for in the phase that wants the
result. Every call of a component of the pipeline (transformer, text encoder, autoencoder) is counted by its shapes, and
one of each kind is made again at the end, bare: without hooks, without compiled blocks, its inputs there. As often as
they were made, and loading, they are the floor that the run is held against.

``PHASES_JSON=FILE`` keeps the figures, ``PHASES_MINUTES=9`` ends the run after the test that is under way then, and
``PHASES_BARE=0`` makes no bare calls.
"""

import json
import os
import resource
import statistics
import time
from collections import Counter
from contextlib import nullcontext
from functools import wraps
from importlib import import_module
from pathlib import Path
from threading import Lock, get_ident

import fixtures  # noqa: F401  # which says how PyTorch's threads wait, before it is imported

# isort: split
import torch
from torch.utils.flop_counter import FlopCounterMode

PHASES = (  # module, name in it, phase
    ("fixtures.models.model", "load_model", "loading the model"),
    ("fixtures.models.model", "untrained_twin", "making twins"),
    ("fixtures.activations.images", "generate", "generating images"),
    ("fixtures.activations.images", "_looked_at", "reading images"),
    ("fixtures.activations.segments", "Captures.in_memory", "capturing and storing"),
    ("fixtures.activations.causal", "written", "patching"),
    ("fixtures.activations.causal", "patch", "patching"),
    ("fixtures.activations.causal", "attribution", "attribution"),
    ("fixtures.session.ahead", "Ahead.take", "waiting for captures"),
    ("fixtures.common.in_turn", "InTurn.__enter__", "waiting for the model"),
    ("fixtures.session.run", "Run.measured", "statistics and controls"),
    ("fixtures.session.run", "Run.control", "statistics and controls"),
    ("fixtures.session.html_page", "claims_table_html", "page and results.json"),
    ("fixtures.session.html_page", "evidence_section", "page and results.json"),
    ("fixtures.session.reporter", "Reporter._write", "page and results.json"),
)
CALLS = {"transformer": ("forward",), "text_encoder": ("forward",), "vae": ("encode", "decode")}
ROUNDS = 3
SUMMED = "calls of components; bare"  # what other benchmarks look for in the output


class Calls:
    """Calls of the pipeline's components, by component, method and shapes: how many, and the inputs of the last."""

    def __init__(self):
        self.number, self.inputs, self.patched, self.lock = Counter(), {}, set(), Lock()

    def watch(self, pipeline) -> None:
        """Count the calls of the classes of its components."""
        for name, methods in CALLS.items():
            kind = type(getattr(pipeline, name))
            for method in methods:
                with self.lock:  # captures are made in a thread of their own
                    if (kind, method) not in self.patched and kind is not type(None):
                        self.patched.add((kind, method))
                        setattr(kind, method, self._counted(name, method, getattr(kind, method)))

    def _counted(self, name: str, method: str, inner):
        @wraps(inner)
        def counted(module, *arguments, **options):
            given = [*arguments, *options.values()]
            shapes = tuple(tuple(one.shape) for one in given if isinstance(one, torch.Tensor))
            key = name, method, shapes
            self.number[key] += 1
            self.inputs[key] = arguments, options
            return inner(module, *arguments, **options)

        return counted

    def bare(self, loaded) -> list[dict]:
        """Median seconds of a bare call of each kind, how many there were, and its operations."""
        from fixtures.models.hooks.compiled import plain_blocks

        found = []
        for (name, method, shapes), number in sorted(self.number.copy().items(), key=lambda entry: entry[0][0]):
            module, (arguments, options) = loaded.ready(name), self.inputs[name, method, shapes]
            plain = plain_blocks(loaded.family, module) if name == "transformer" else nullcontext()
            call, seconds = getattr(module, method), []
            with torch.inference_mode(), plain:
                try:
                    with FlopCounterMode(display=False) as operations:
                        call(*arguments, **options)
                    for _ in range(ROUNDS):
                        _wait()
                        began = time.perf_counter()
                        call(*arguments, **options)
                        _wait()
                        seconds.append(time.perf_counter() - began)
                except torch.OutOfMemoryError:
                    print(f"no memory for a bare {name}.{method} of {shapes}: not in the floor")
                    continue
            found.append(
                {
                    "component": f"{name}.{method}",
                    "shapes": [list(shape) for shape in shapes],
                    "calls": number,
                    "seconds": statistics.median(seconds),
                    "operations": operations.get_total_flops(),
                }
            )
        return found


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Phases:
    """Seconds by phase, calls of components, and what they come to."""

    def __init__(self):
        self.started, self.run, self.tests, self.peak = time.perf_counter(), None, 0, 0
        self.outcomes = Counter()
        self.seconds, self.stacks, self.calls = Counter(), {}, Calls()
        self.file = os.environ.get("PHASES_JSON")
        self.limit = 60 * float(os.environ.get("PHASES_MINUTES", "inf"))

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
                found = inner(*arguments, **options)
                if phase == "loading the model":
                    self.calls.watch(found.pipeline)
                return found
            finally:
                now = time.perf_counter()
                ended, since = stack.pop()
                self.seconds[ended] += now - since
                if stack:
                    stack[-1][1] = now

        setattr(owner, name, timed)

    def pytest_runtestloop(self):
        """Import the engine, which is a phase of its own, and wrap what it does."""
        began = time.perf_counter()
        run = import_module("fixtures.session.run").Run
        self.seconds["imports"] += time.perf_counter() - began
        for entry in PHASES:
            self.wrap(*entry)
        phases, inner = self, run.__init__
        loaded = import_module("fixtures.models.loaded").LoadedModel
        ready = loaded.ready

        @wraps(inner)
        def told(self, *arguments, **options):
            inner(self, *arguments, **options)
            phases.run = self

        @wraps(ready)
        def watched(self, name):
            found = ready(self, name)
            phases.calls.watch(self.pipeline)  # where components take turns it has its text encoder only from now on
            return found

        run.__init__, loaded.ready = told, watched

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.outcomes["xfailed" if hasattr(report, "wasxfail") else report.outcome] += 1

    def pytest_runtest_logfinish(self, nodeid, location):
        self.tests += 1
        self._look()
        self._keep({"phases": dict(self.seconds), "whole": time.perf_counter() - self.started, "killed": True})

    def _look(self) -> None:
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            self.peak = torch.cuda.max_memory_reserved()

    def _keep(self, about: dict) -> None:
        if self.file:
            about |= {"tests": self.tests, "host_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
            about |= {"gpu_bytes": self.peak, "outcomes": dict(self.outcomes)}
            Path(self.file).write_text(json.dumps(about, indent=1))

    def pytest_runtest_teardown(self, item, nextitem):
        if nextitem is not None and time.perf_counter() - self.started > self.limit:
            item.session.shouldstop = "out of time; the same command goes on from here"

    def pytest_unconfigure(self):
        whole, calls, rate = time.perf_counter() - self.started, [], None
        self._look()  # bare calls add to the peak
        self._keep({"phases": dict(self.seconds), "whole": whole, "killed": True})
        if self.calls.number and os.environ.get("PHASES_BARE") != "0":
            calls = self.calls.bare(self.run.model.loaded)
            rate = import_module("benchmarks.full_size").matrix_rate() if torch.cuda.is_available() else None
        bare = sum(call["calls"] * call["seconds"] for call in calls)
        print(f"{sum(call['calls'] for call in calls)} {SUMMED} {bare:.1f} s")
        for phase, seconds in [*self.seconds.most_common(), ("whole run", whole)]:
            ratio = f"{seconds / bare:7.2f}" if bare else "      -"
            print(f"  {phase:<28} {seconds:7.1f} s {ratio}")
        about = {"phases": dict(self.seconds), "whole": whole, "calls": calls}
        self._keep(about | {"matrix_rate": rate, "bare_seconds": time.perf_counter() - self.started - whole})


def pytest_configure(config):
    config.pluginmanager.register(Phases(), "phases")

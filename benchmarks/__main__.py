"""All benchmarks: ``python -m benchmarks``."""

import subprocess
import sys

for name in ("null_speed", "capture_speed", "main_job"):
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
    print()

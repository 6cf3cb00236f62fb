# SPDX-License-Identifier: Apache-2.0
"""What the Python benchmarks share: the end-to-end tests' harness, and measuring of processes."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "e2e"))

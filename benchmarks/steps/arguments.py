"""The command line: which networks are trained, and in which ways."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

from benchmarks.arguments import worker_and_path
from benchmarks.steps import results, summary
from benchmarks.steps.networks import NETWORKS

_HERE = pathlib.Path(__file__).resolve().parent.parent
# Trained in mixed precision, besides float32, where nothing else is asked for.
_MIXED = ("unet3d", "resnext3d")
_FORMATS = ("last", "first")
_SIDES = ("as-it-is", "patched", "torch")

_EPILOG = """\
examples:
  python -m benchmarks.steps                               everything: about 12 minutes on 2 cores
  python -m benchmarks.steps --quick                       few steps: about 5 minutes
  python -m benchmarks.steps vnet --compiled no            one network, without XLA
  python -m benchmarks.steps --formats first --dtypes mixed_bfloat16
  python -m benchmarks.steps unet3d --no-onednn --sides as-it-is patched --compiled no
  python -m benchmarks.steps --resume                      goes on where the last run ended
  python -m benchmarks.steps --report                      the last run's tables and plot anew

A run of everything is kept in benchmarks/ (steps.json, RESULTS.md, plots/steps.png), others in
results/. PyTorch takes part where `make bench-peers` has installed it.
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Returns the options, with `races`, (network, dtype) each, and `contestants`."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.steps",
    description="Times training steps of Keras models, TensorFlow as it is and patched, and of the "
    "same networks in PyTorch, in turns; compares the losses.",
    epilog=_EPILOG,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  # argparse checks defaults against choices where nargs is *, and a list is none of them.
  add("networks", nargs="*", metavar="NETWORK", default=[], help=f"of {', '.join(NETWORKS)}")
  add("--formats", nargs="+", choices=_FORMATS, default=list(_FORMATS), help="of the channels")
  add("--compiled", choices=("no", "yes", "both"), default="both", help="by XLA, the whole step")
  add(
    "--dtypes", nargs="+", choices=tuple(summary.TOLERANCE),
    help=f"default: float32, and for {', '.join(_MIXED)} mixed_bfloat16",
  )  # fmt: skip
  add("--sides", nargs="+", choices=_SIDES, default=list(_SIDES), help="who trains")
  add("--no-onednn", action="store_true", help="TensorFlow without oneDNN, as without VNNI")
  add("--quick", action="store_true", help="few steps of each")
  add("--resume", action="store_true", help="keep what the last run has measured")
  add("--report", action="store_true", help="no more than the last run's tables and plot anew")
  add("--out", type=pathlib.Path, help="the folder for the results")
  add(
    "--python", type=worker_and_path, action="append", default=[], metavar="NAME=PATH",
    help="another interpreter for torch-steps",
  )  # fmt: skip
  options = parser.parse_args(argv)
  unknown = [network for network in options.networks if network not in NETWORKS]
  if unknown:
    parser.error(f"NETWORK must be of {', '.join(NETWORKS)}, got {' '.join(unknown)}")
  options.races = _races(options)
  options.contestants = tuple(who for who in summary.CONTESTANTS if _takes_part(who, options))
  everything = parser.parse_args([])
  is_whole = all(
    getattr(options, name) == getattr(everything, name)
    for name in ("networks", "formats", "compiled", "dtypes", "sides", "quick", "no_onednn")
  )
  options.out = options.out or (_HERE if is_whole else _HERE.parent / "results")
  if options.report and not (options.out / results.NAME).exists():
    parser.error(f"--report needs results of an earlier run, got none in {options.out}")
  return options


def _races(options: argparse.Namespace) -> tuple[tuple[str, str], ...]:
  networks = options.networks or list(NETWORKS)
  dtypes = options.dtypes or list(summary.TOLERANCE)
  return tuple(
    (network, dtype)
    for dtype in dtypes
    for network in networks
    if options.dtypes or dtype == summary.FLOAT32 or network in _MIXED
  )


def _takes_part(contestant: str, options: argparse.Namespace) -> bool:
  worker, way = contestant.split("/")
  if contestant in summary.TORCH:
    return "torch" in options.sides
  layout, _, compiled = way.partition("-")
  wanted = options.compiled in ("both", "yes" if compiled else "no")
  return worker in options.sides and layout in options.formats and wanted

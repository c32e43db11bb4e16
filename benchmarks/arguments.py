"""The command line: which cases, rows and studies a run is made of."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

from benchmarks import cases, results, rows, workers
from benchmarks.networks import NETWORKS
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.direction import DIRECTIONS

_HERE = pathlib.Path(__file__).resolve().parent
_STUDIES = ("first-call", "memory", "scaling")
_WHERE = (*dict.fromkeys(row.where for row in rows.ROWS), "networks", *_STUDIES)

_EPILOG = """\
examples:
  python -m benchmarks                                      everything: half an hour on 2 cores
  python -m benchmarks --quick                              a first impression in 4 minutes
  python -m benchmarks mb1_id32_ic32oc64_k3s1d1_ndhwc_f32   one case, all contestants
  python -m benchmarks --suite dilated --where compiled     one theme, one row of the table
  python -m benchmarks --direction fwd bwd_w                two of the three functions
  python -m benchmarks --resume                             goes on where the last run ended
  python -m benchmarks --report                             the last run's tables and plots anew

A run of everything is kept in benchmarks/ (results.json, RESULTS.md, plots/), others in results/.
PyTorch and JAX take part where `make bench-peers` has installed them.
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Returns the options, with `rows`, the rows to fill, and `studies`, those to make."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks",
    description="Races the ops against TensorFlow's own, PyTorch and JAX, and checks every result.",
    epilog=_EPILOG,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("cases", nargs="*", help="cases in the short notation; default: all suites")
  add(
    "--suite", nargs="+", choices=cases.SUITES, metavar="SUITE", default=[],
    help=f"themes to race: {', '.join(cases.SUITES)}",
  )  # fmt: skip
  add(
    "--where", nargs="+", choices=_WHERE, metavar="WHERE", default=[],
    help=f"rows of the table and studies: {', '.join(_WHERE)}",
  )  # fmt: skip
  add(
    "--direction", nargs="+", choices=DIRECTIONS, metavar="DIRECTION", default=list(DIRECTIONS),
    help=f"functions, as a case names them: {', '.join(DIRECTIONS)}",
  )  # fmt: skip
  add("--quick", action="store_true", help="few cases, few samples")
  add("--resume", action="store_true", help="keep what the last run has measured")
  add("--report", action="store_true", help="no more than the last run's tables and plots anew")
  add("--list", action="store_true", help="list the cases and stop")
  add("--out", type=pathlib.Path, help="the folder for the results")
  add(
    "--python", type=worker_and_path, action="append", default=[], metavar="NAME=PATH",
    help="another interpreter for torch or jax",
  )  # fmt: skip
  options = parser.parse_args(argv)
  for case in options.cases:
    try:
      Case.parse(case)
    except ValueError as error:
      parser.error(str(error))
  some = set(options.direction) != set(DIRECTIONS)
  everywhere = not (options.where or options.cases or options.suite or some)
  everything = everywhere and not options.quick
  options.out = options.out or (_HERE if everything else _HERE.parent / "results")
  if options.report and not (options.out / results.NAME).exists():
    parser.error(f"--report needs results of an earlier run, got none in {options.out}")
  options.rows = tuple(row for row in rows.ROWS if row.where in options.where)
  if not options.rows and ("networks" in options.where or not options.where):
    options.rows = rows.ROWS
  options.studies = _STUDIES if everywhere else options.where
  return options


def chosen_cases(options: argparse.Namespace) -> tuple[str, ...]:
  """Returns the cases to race, each once."""
  if options.cases:
    chosen = [str(Case.parse(case)) for case in options.cases]
  elif options.suite:
    chosen = [case for suite in options.suite for case in cases.SUITES[suite]]
  elif "networks" in options.where:
    chosen = [case for network in NETWORKS for case in cases.SUITES[network]]
  elif not options.rows:
    chosen = []
  elif options.quick:
    chosen = list(cases.QUICK)
  else:
    chosen = [case for suite in cases.SUITES.values() for case in suite]
  parsed = {case: Case.parse(case) for case in chosen}
  return tuple(
    name
    for name, case in parsed.items()
    if case.direction.name in options.direction and rows.contestants(case, options.rows)
  )


def worker_and_path(text: str) -> tuple[str, str]:
  """Returns both parts of NAME=PATH."""
  worker, _, path = text.partition("=")
  if worker not in workers.NAMES or not path:
    raise argparse.ArgumentTypeError(f"must be one of {workers.NAMES} = a path, got {text!r}")
  return worker, path

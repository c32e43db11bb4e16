"""Runs the op on given or random cases and says where it differs.

    python -m tf_conv3d_grad.conformance mb1_id8_ic2oc3_k3s2d1_ndhwc_f32 --seed 7
    python -m tf_conv3d_grad.conformance --random 2000 --seed 0

The i-th random case is drawn with the seed `--seed` + i, and so are its tensors.
"""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Iterator

import numpy as np

from tf_conv3d_grad.conformance.case import Case, random_case
from tf_conv3d_grad.conformance.differential import DEFAULT_WAYS, WAYS, run

_PROGRESS_EVERY = 50


def main(argv: list[str] | None = None) -> int:
  """Returns the exit status: 0 if no case differs, 1 if some do."""
  options = _parse(argv)
  total = len(options.cases) + options.random
  routes: collections.Counter[str] = collections.Counter()
  failed = []
  for done, (case, seed) in enumerate(_problems(options), start=1):
    report = run(case, seed, ways=options.ways)
    routes[report.raw_route] += 1
    if not report.passed:
      failed.append(report)
      _print(f"FAILED {report}")
    elif options.cases:
      _print(report)
    if done % _PROGRESS_EVERY == 0:
      _print(f"{done} of {total} cases, {len(failed)} differ")
  counts = ", ".join(f"{count} {route}" for route, count in sorted(routes.items()))
  _print(f"{total} cases, {len(failed)} differ; TensorFlow's own op: {counts or 'not called'}")
  return 1 if failed else 0


def _problems(options: argparse.Namespace) -> Iterator[tuple[Case, int]]:
  for case in options.cases:
    yield case, options.seed
  for seed in range(options.seed, options.seed + options.random):
    yield random_case(np.random.default_rng(seed), max_size=options.max_size), seed


def _parse(argv: list[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m tf_conv3d_grad.conformance", description=(__doc__ or "").splitlines()[0]
  )
  parser.add_argument("cases", nargs="*", type=_case, help="cases in the short notation")
  parser.add_argument("--seed", type=int, default=0, help="seed of the (first) case's tensors")
  parser.add_argument("--random", type=int, default=0, metavar="N", help="also run N random cases")
  parser.add_argument(
    "--max-size", type=int, default=10, help="largest spatial length of random cases"
  )
  parser.add_argument(
    "--ways",
    type=_ways,
    default=DEFAULT_WAYS,
    help=f"ways of calling, comma-separated, or all; default {','.join(DEFAULT_WAYS)}; "
    f"known are {', '.join(WAYS)}",
  )
  options = parser.parse_args(argv)
  if not options.cases and options.random < 1:
    parser.error("name a case, or give --random N")
  return options


def _case(text: str) -> Case:
  try:
    return Case.parse(text)
  except ValueError as error:
    raise argparse.ArgumentTypeError(str(error)) from None


def _ways(text: str) -> tuple[str, ...]:
  ways = tuple(WAYS) if text == "all" else tuple(text.split(","))
  unknown = [way for way in ways if way not in WAYS]
  if unknown:
    raise argparse.ArgumentTypeError(f"ways must be among {', '.join(WAYS)}, got {unknown}")
  return ways


def _print(line: object) -> None:
  print(line, flush=True)


if __name__ == "__main__":
  sys.exit(main())

"""The lowerings on a GPU without TensorFlow there: its programs, run by JAX's client.

    python -m benchmarks.gpu_hlo export FOLDER [CASE ...]   where TensorFlow is: writes StableHLO
    python -m benchmarks.gpu_hlo run FOLDER                 where JAX is, with a GPU or without

`export` writes for every case the program that XLA is given for the op's overlap-add, and that for
the raw op's one transposed convolution, which cuDNN takes on a GPU; with them random tensors and
the result expected. `run` compiles both, and JAX's own gradient, for JAX's first device, and writes
`gpu.json`: errors, and medians in seconds. The report quotes it if it lies beside results.json.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# How long to time each program, and the fewest calls.
_SECONDS = 0.5
_LEAST_CALLS = 5

DEFAULT_CASES = (
  "mb1_id32_ic32oc64_k3s1d1_ndhwc_f32",
  "mb1_id32_ic32oc64_k3s1d1_ncdhw_f32",
  "mb1_id32_ic32oc32_k3s1d2_ndhwc_f32",
  "mb1_id32_ic32oc64_k3s2d1_ndhwc_f32",
  "mb1_id32_ic32oc64_k2s2d1_ndhwc_f32",
  "mb1_id48_ic1oc32_k3s1d1_ndhwc_f32",
  "mb1_id48_ic3oc64_k7s2d1_ndhwc_f32",
  "mb2_id8_ic256oc256_k3s1d1_ndhwc_f32",
  "mb1_id16_ic64oc64g4_k3s1d1_ndhwc_f32",
  "mb1_id24_ic64oc64g64_k3s1d1_ndhwc_f32",
  "mb1_id24_ic32oc32_k3s1d1_ndhwc_f16",
  "mb1_id24_ic32oc32_k3s1d1_ndhwc_bf16",
)
RESULTS = "gpu.json"


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one of the two halves; returns the exit status."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.gpu_hlo",
    description=(__doc__ or "").split("\n\n")[0],
  )
  halves = parser.add_subparsers(dest="half", required=True)
  half = halves.add_parser("export", help="write StableHLO, tensors and results")
  half.add_argument("folder", type=pathlib.Path)
  half.add_argument("cases", nargs="*", default=DEFAULT_CASES)
  half = halves.add_parser("run", help="run what export wrote, and time it")
  half.add_argument("folder", type=pathlib.Path)
  options = parser.parse_args(argv)
  if options.half == "export":
    for case in options.cases:
      export(case, options.folder / case)
      print(f"exported {case}", flush=True)
  else:
    found = run(options.folder)
    (options.folder / RESULTS).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
  return 0


def export(name: str, folder: pathlib.Path) -> None:
  """Writes one case's programs and data into `folder`."""
  import tensorflow as tf

  import tf_conv3d_grad
  from benchmarks import expected, problem
  from tf_conv3d_grad.conformance.case import Case

  case = Case.parse(name)
  folder.mkdir(parents=True, exist_ok=True)
  tensors = problem.save_tensors(case, folder)
  expected.save(case, tensors, folder)
  described = {"flops": case.flops, **problem.describe(case)}
  (folder / "problem.json").write_text(json.dumps(described), encoding="utf-8")
  operands = [tf.constant(tensor, case.dtype) for tensor in tensors.values()]
  ops = {
    "overlap_add": tf_conv3d_grad.Conv3DBackpropInputV2,
    "kernel": tf.raw_ops.Conv3DBackpropInputV2,
  }
  for lowering, op in ops.items():
    (folder / f"{lowering}.mlir").write_text(_stablehlo(op, case, operands), encoding="utf-8")


def _stablehlo(op: Callable[..., Any], case: Any, operands: Sequence[Any]) -> str:
  """Returns what XLA is given of a call of `op`, before it optimizes anything."""
  import tensorflow as tf

  @tf.function(jit_compile=True, autograph=False)
  def call(filter: tf.Tensor, out_backprop: tf.Tensor) -> tf.Tensor:  # noqa: A002
    return op(
      input_sizes=case.input_sizes, filter=filter, out_backprop=out_backprop, **case.attributes()
    )

  return call.experimental_get_compiler_ir(*operands)(stage="stablehlo")


def run(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the device and, by case and program, `error`, `median_s` and `gflops_per_s`."""
  import jax

  from benchmarks.peers.jax_peer import JaxPeer
  from benchmarks.peers.protocol import relative_error

  jax.config.update("jax_enable_x64", True)
  device = jax.devices()[0]
  cases: dict[str, dict[str, Any]] = {}
  peer = JaxPeer()
  for path in sorted(folder.glob("*/problem.json")):
    case = path.parent
    problem = json.loads(path.read_text(encoding="utf-8"))
    tensors = [np.load(case / f"{name}.npy") for name in ("filter", "out_backprop")]
    calls = {program.stem: _load(program, problem, tensors) for program in case.glob("*.mlir")}
    calls["JAX"] = peer.prepare("jit", problem, *tensors)
    cases[case.name] = {}
    for name, call in calls.items():
      result = peer.to_numpy(call(), problem)
      seconds = _median_s(call)
      found = {
        "error": relative_error(result, np.load(case / "expected.npy")),
        "median_s": seconds,
        "gflops_per_s": problem["flops"] / seconds / 1e9,
      }
      cases[case.name][name] = found
      print(f"{case.name:<44} {name:<16} {found['gflops_per_s']:9.1f} GF/s, "
            f"relative error {found['error']:.1e}", flush=True)  # fmt: skip
  return {"device": device.device_kind, "jax": jax.__version__, "cases": cases}


def _load(
  program: pathlib.Path, problem: dict[str, Any], tensors: list[np.ndarray]
) -> Callable[[], Any]:
  """Returns a call of a StableHLO program, compiled for JAX's first device."""
  import jax
  from jax.extend import backend
  from jaxlib import _jax

  device = jax.devices()[0]
  executable = backend.get_backend().compile_and_load(
    program.read_text(encoding="utf-8"),
    _jax.DeviceList((device,)),
    backend.get_compile_options(num_replicas=1, num_partitions=1),
  )
  operands = [
    jax.device_put(jax.numpy.asarray(tensor, problem["dtype"]), device) for tensor in tensors
  ]
  return lambda: executable.execute(operands)[0].block_until_ready()


def _median_s(call: Callable[[], Any]) -> float:
  samples: list[float] = []
  while len(samples) < _LEAST_CALLS or sum(samples) < _SECONDS:
    start = time.perf_counter()
    call()
    samples.append(time.perf_counter() - start)
  return statistics.median(samples)


if __name__ == "__main__":
  sys.exit(main())

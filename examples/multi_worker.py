"""Trains one network as two processes that share every batch, beside one process that has it all.

The two talk over 127.0.0.1 as two machines would over their network, by TensorFlow's
`MultiWorkerMirroredStrategy`. You see every process's progress while they run, then the losses side
by side: they are the same, within rounding, or the exit status is 1.

  python examples/multi_worker.py --steps 20

What each process runs, and how to start it on real machines, is in distributed_training.py.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import pathlib
import queue
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator

import rich
from rich import box, progress, table

TRAINING = pathlib.Path(__file__).with_name("distributed_training.py")
ALONE = "one process"
# Sums in another order: float32 rounding, which training steps amplify.
TOLERANCE = 1e-4


def main() -> int:
  arguments = parse_arguments()
  runs = run_all(arguments)
  rich.print(table_of(runs))
  worst = max(largest_differences(runs))
  rich.print(f"Largest relative difference: {worst:.1e}")
  return 0 if worst < TOLERANCE else 1


def parse_arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--workers", type=int, default=2, help="processes that share a batch (default: %(default)s)")
  add("--steps", type=int, default=20, help="training steps (default: %(default)s)")
  add("--batch", type=int, default=4, help="volumes a step, of all together (default: %(default)s)")
  add("--size", type=int, default=16, help="length of a volume's edge (default: %(default)s)")
  add("--jit-compile", action="store_true", help="compile the network and its gradient by XLA")
  arguments = parser.parse_args()
  if arguments.workers < 1 or arguments.batch % arguments.workers:
    parser.error("--batch must be a multiple of --workers")
  return arguments


def run_all(arguments: argparse.Namespace) -> dict[str, list[float]]:
  """Runs all processes at once and returns their losses by name."""
  command = [sys.executable, str(TRAINING)]
  for name in ("steps", "batch", "size"):
    command += [f"--{name}", str(getattr(arguments, name))]
  if arguments.jit_compile:
    command.append("--jit-compile")
  # Processes of one machine would fight over its GPU.
  base = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
  base["PYTHONPATH"] = os.pathsep.join([str(TRAINING.parents[1]), base.get("PYTHONPATH", "")])
  base.pop("TF_CONFIG", None)
  jobs = {ALONE: (command, base)}
  for name, config in zip(worker_names(arguments.workers), tf_configs(arguments.workers)):
    jobs[name] = ([*command, "--strategy", "workers"], {**base, "TF_CONFIG": json.dumps(config)})

  columns = (
    progress.TextColumn("{task.description:12}"),
    progress.BarColumn(),
    progress.MofNCompleteColumn(),
    progress.TextColumn("{task.fields[loss]}"),
    progress.TimeElapsedColumn(),
  )
  runs: dict[str, list[float]] = {name: [] for name in jobs}
  ended: queue.SimpleQueue[str] = queue.SimpleQueue()
  with contextlib.ExitStack() as stack:
    bars = stack.enter_context(progress.Progress(*columns))
    processes = {name: stack.enter_context(started(*job)) for name, job in jobs.items()}
    for name, (process, _) in processes.items():
      task = bars.add_task(name, total=arguments.steps, loss="starting")
      on_loss = functools.partial(show, bars, task, runs[name])
      threading.Thread(target=follow, args=[process, on_loss, ended, name], daemon=True).start()
    for _ in processes:
      # Whichever ends first: if one fails, the others would wait for it.
      name = ended.get()
      process, errors = processes[name]
      if process.wait():
        errors.seek(0)
        reason = errors.read()[-4000:]
        raise SystemExit(f"{name} failed with status {process.returncode}:\n{reason}")
  return runs


@contextlib.contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[tuple]:
  """Yields a running process and the file that has its errors; ends the process on the way out."""
  with tempfile.TemporaryFile("w+") as errors:
    with subprocess.Popen(
      command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:
      try:
        yield process, errors
      finally:
        process.kill()


def follow(
  process: subprocess.Popen, on_loss: Callable[[float], None], ended: queue.SimpleQueue, name: str
) -> None:
  """Reads a process's steps as they come, and says when there are no more."""
  for line in process.stdout:
    step = re.match(r"step \d+/\d+ loss (\S+)", line)
    if step:
      on_loss(float(step.group(1)))
  ended.put(name)


def show(bars: progress.Progress, task: progress.TaskID, losses: list[float], loss: float) -> None:
  """Adds a loss to those of a process, and moves its bar."""
  losses.append(loss)
  bars.update(task, completed=len(losses), loss=f"loss {loss:.4f}")


def tf_configs(workers: int) -> list[dict]:
  """Returns what TF_CONFIG says to each worker: the addresses of all, and its own number."""
  with contextlib.ExitStack() as stack:
    ports = []
    for _ in range(workers):
      listener = stack.enter_context(socket.socket())
      listener.bind(("127.0.0.1", 0))  # any port that is free
      ports.append(listener.getsockname()[1])
  cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
  return [
    {"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(workers)
  ]


def worker_names(workers: int) -> list[str]:
  return [f"worker {index} of {workers}" for index in range(workers)]


def table_of(runs: dict[str, list[float]]) -> table.Table:
  """Returns the losses, one row a step and one column a process."""
  grid = table.Table(box=box.SIMPLE_HEAD, title="Loss of the whole batch")
  for heading in ("step", *runs, "difference"):
    grid.add_column(heading, justify="right")
  rows = zip(zip(*runs.values()), largest_differences(runs))
  for step, (losses, difference) in enumerate(rows, 1):
    grid.add_row(str(step), *(f"{loss:.7f}" for loss in losses), f"{difference:.0e}")
  return grid


def largest_differences(runs: dict[str, list[float]]) -> list[float]:
  """Returns by how much the losses of each step differ, relative to the process alone."""
  return [(max(losses) - min(losses)) / abs(losses[0]) for losses in zip(*runs.values())]


if __name__ == "__main__":
  sys.exit(main())

"""The benchmark of training steps: its networks, its turns, and what is made of the times."""

from __future__ import annotations

import importlib.util
import pathlib

import keras
import tensorflow as tf
from absl.testing import absltest, parameterized

from benchmarks.steps import arguments, keras_trainer, race, results, summary, tables
from benchmarks.steps.graph import Graph
from benchmarks.steps.networks import GROUPED, NETWORKS, Network
from benchmarks.workers import WorkerError

_RACE = "unet3d float32"


def _ran(seconds, first_s=1.0, **more):
  return {"median_s": seconds, "first_s": first_s, "steps": 5, **more}


class NetworksTest(parameterized.TestCase):
  @parameterized.parameters(*NETWORKS)
  def test_logits_are_those_of_each_voxel_or_of_the_volume_in_both_formats(self, name):
    network = NETWORKS[name]
    size = network.size if network.per_voxel else (1, 1, 1)
    for data_format, shape in (
      ("channels_last", (1, *size, network.classes)),
      ("channels_first", (1, network.classes, *size)),
    ):
      model = keras_trainer.build(network.graph(), network.size, data_format, "float32")
      self.assertEqual(model.output_shape, shape)

  def test_those_called_grouped_are(self):
    for network in NETWORKS.values():
      groups = [layer.settings.get("groups", 1) for layer in network.graph().layers]
      self.assertEqual(max(groups) > 1, network.kind == GROUPED)

  def test_a_depthwise_convolution_has_as_many_groups_as_channels(self):
    graph = Graph(6)
    self.assertEqual(graph.layers[graph.depthwise(0)].settings["groups"], 6)


class KerasTrainerTest(parameterized.TestCase):
  @parameterized.parameters("last", "first-compiled")
  def test_the_same_weights_and_data_give_the_same_losses(self, way):
    network = Network("", "", lambda graph, n: graph.conv(0, n), (4, 4, 4), 1, 2, True)
    losses = []
    for trained in ("last", way):
      step, parameters = keras_trainer.KerasTrainer().begin(network, "float32", trained)
      self.assertEqual(parameters, 27 * 2)
      losses.append([step() for _ in range(3)])
    self.assertLess(race.difference(*losses), 1e-5)
    self.assertLess(losses[0][2], losses[0][0])

  def test_weights_stay_float32_in_mixed_precision(self):
    model = keras_trainer.build(NETWORKS["unet3d"].graph(), (8, 8, 8), "channels_last",
                                "mixed_bfloat16")  # fmt: skip
    self.assertEqual({variable.dtype for variable in model.trainable_variables}, {"float32"})
    self.assertEqual(tf.as_dtype(model.output.dtype), tf.bfloat16)
    self.assertEqual(keras.config.dtype_policy().name, "float32")


class _FakeWorker:
  """Trains nothing; by contestant it is slow, refuses, or ends."""

  def __init__(self, contestant):
    self._contestant = contestant
    self.asked = []

  def ask(self, do, patience_s=60, steps=0, **arguments):
    del patience_s, arguments
    self.asked.append(do)
    if self._contestant == "as-it-is/first":
      return {"failed": "InvalidArgumentError: no"}
    if self._contestant == "patched/first":
      raise WorkerError("ended with status -6")
    seconds = 20.0 if self._contestant == "as-it-is/last-compiled" else 0.5
    if do == "begin":
      return {"first_s": 2 * seconds, "loss": 2.0, "parameters": 1}
    last = 1.0 if self._contestant.startswith("as-it-is") else 1.5
    return {"seconds": [seconds] * steps, "losses": [last] * steps}


class _FakePool:
  def __init__(self):
    self.running = {}
    self.forgotten = 0

  def get(self, contestant):
    return self.running.setdefault(contestant, _FakeWorker(contestant))

  def drop(self, contestant):
    self.running.pop(contestant)

  def forget(self):
    self.forgotten += 1


class RaceTest(absltest.TestCase):
  def _race(self, *contestants):
    pool = _FakePool()
    found = race.race("unet3d", "float32", contestants, pool, race.Pace())
    self.assertEqual(pool.forgotten, 1)
    return [found[contestant] for contestant in contestants]

  def test_the_first_step_does_not_count_in_the_median(self):
    (outcome,) = self._race("as-it-is/last")
    self.assertEqual((outcome["median_s"], outcome["first_s"]), (0.5, 1.0))
    self.assertGreaterEqual(outcome["steps"], race.Pace().least)

  def test_who_is_slow_takes_two_steps(self):
    (outcome,) = self._race("as-it-is/last-compiled")
    self.assertEqual((outcome["median_s"], outcome["steps"]), (20.0, 1))

  def test_losses_are_compared_in_the_same_way_over_the_first_loss(self):
    _, outcome = self._race("as-it-is/last", "patched/last")
    self.assertEqual(outcome["differs"], 0.25)

  def test_where_the_counterpart_failed_losses_are_compared_to_the_reference(self):
    _, _, outcome = self._race("as-it-is/last", "as-it-is/first", "patched/first-compiled")
    self.assertEqual(outcome["differs"], 0.25)

  def test_pytorchs_losses_are_not_compared(self):
    _, outcome = self._race("as-it-is/last", "torch-steps/contiguous")
    self.assertNotIn("differs", outcome)

  def test_refusals_and_crashes_are_outcomes_and_stop_nobody(self):
    refused, crashed, good = self._race("as-it-is/first", "patched/first", "patched/last")
    self.assertEqual(refused, {"failed": "InvalidArgumentError: no"})
    self.assertIn("status -6", crashed["failed"])
    self.assertEqual(good["median_s"], 0.5)


class SummaryTest(absltest.TestCase):
  def test_ratios_are_of_networks_of_their_kind_that_ran_on_both_sides(self):
    ran = {"as-it-is/last": _ran(4.0), "patched/last": _ran(1.0)}
    lines = summary.lines({"x3d float32": ran, "unet3d float32": ran, "vnet float32": {},
                           "unet3d mixed_bfloat16": ran})  # fmt: skip
    by_title = {line.ratio.title: line.figures for line in lines}
    grouped = by_title["a step, channels last as it is over patched, grouped and depthwise"]
    self.assertEqual(grouped, {"x3d float32": 4.0})
    plain = by_title["a step, channels last patched over as it is, without groups"]
    self.assertEqual(plain, {"unet3d float32": 0.25})

  def test_losses_that_differ_by_more_than_rounding_are_found(self):
    races = {_RACE: {"patched/last": _ran(1.0, differs=0.1), "patched/first": _ran(1.0, differs=0)}}
    self.assertEqual(list(summary.different(races)), [(_RACE, "patched/last", 0.1)])


class ReportTest(absltest.TestCase):
  @absltest.skipIf(importlib.util.find_spec("matplotlib") is None, "there is no matplotlib")
  def test_what_was_saved_is_loaded_and_shown(self):
    from benchmarks import report
    from benchmarks.steps import plot

    folder = pathlib.Path(self.create_tempdir().full_path)
    machine = dict(date="", processor="", cores=2, memory_gb=1, copy_gb_per_s=1, system="",
                   python="", load=None)  # fmt: skip
    saved = results.Results(folder, {"machine": machine, "workers": {}, "minutes": 1})
    saved.races = {
      _RACE: {
        "as-it-is/last": _ran(0.4),
        "patched/last": _ran(0.1, differs=1e-6),
        "as-it-is/first": {"failed": "InvalidArgumentError: no"},
        "patched/first": _ran(0.2),
      }
    }
    saved.save()
    found = results.Results.load(folder)
    self.assertEqual(vars(found), vars(saved))
    plot.draw(found, folder / "plots")
    self.assertTrue((folder / "plots" / "steps.png").exists())
    report.write(folder)
    text = (folder / "RESULTS.md").read_text(encoding="utf-8")
    self.assertIn("| 3D U-Net | float32 | channels last | 400 | 100 | 4.00 |", text)
    self.assertIn("channels first | error | 200 | - |", text)
    self.assertIn(tables.remarks(found)[0], text)

  def test_there_may_be_no_results_yet(self):
    self.assertIsNone(results.Results.load(pathlib.Path(self.create_tempdir().full_path)))


class ArgumentsTest(absltest.TestCase):
  def test_a_run_of_everything_is_kept_beside_the_other_results(self):
    options = arguments.parse([])
    self.assertEqual(options.out.name, "benchmarks")
    self.assertLen(options.contestants, 10)
    self.assertContainsSubset([(network, "float32") for network in NETWORKS], options.races)

  def test_options_choose_networks_formats_and_sides(self):
    options = arguments.parse(
      "vnet --formats first --compiled no --sides as-it-is patched --dtypes float32".split()
    )
    self.assertEqual(options.races, (("vnet", "float32"),))
    self.assertEqual(options.contestants, ("as-it-is/first", "patched/first"))
    self.assertEqual(options.out.name, "results")


if __name__ == "__main__":
  absltest.main()

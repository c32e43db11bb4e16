"""The benchmark's own arithmetic: what is raced, and what is made of the times."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib

import tensorflow as tf
from absl.testing import absltest, parameterized

from benchmarks import (
  arguments,
  cases,
  choice,
  expected,
  first_call,
  fit_costs,
  problem,
  race,
  results,
  rows,
  summary,
  tables,
)
from benchmarks.networks import NETWORKS
from benchmarks.workers import WorkerError, Workers
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.conformance.direction import DIRECTIONS
from tf_conv3d_grad.planning import policy
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.tensorflow.environment import Environment

_CASE = "mb1_id8_ic2oc3_k3s2d1_ndhwc_f32"
_COMPILED = next(row for row in rows.ROWS if row.where == "compiled")
(_OURS,), (_THEIRS,) = _COMPILED.ours, _COMPILED.theirs


def _of(direction, names):
  return {name for name in names if Case.parse(name).direction == direction}


def _ran(seconds, error=1e-7):
  return {"median_s": seconds, "first_s": seconds, "error": error}


class CasesTest(absltest.TestCase):
  def test_every_case_is_written_in_its_shortest_form(self):
    for suite in cases.SUITES.values():
      for case in suite:
        self.assertEqual(str(Case.parse(case)), case)

  def test_no_suite_lists_a_case_twice(self):
    for name, suite in cases.SUITES.items():
      self.assertLen(set(suite), len(suite), name)

  def test_small_cases_are_small_and_no_others_are_raced_eagerly_only(self):
    for name in cases.SMALL:
      self.assertLessEqual(max(Case.parse(name).input_size), 8)
    for network in NETWORKS.values():
      self.assertTrue(cases.SMALL.isdisjoint(network.layers))

  def test_many_shapes_differ(self):
    for refused in (False, True):
      found = [str(case) for case in first_call.shapes(30, refused)]
      self.assertLen(set(found), 30)


class ArgumentsTest(absltest.TestCase):
  def _directions(self, *argv):
    chosen = arguments.chosen_cases(arguments.parse(argv))
    return {Case.parse(case).direction.name for case in chosen}

  def test_all_three_functions_are_raced_if_only_quickly(self):
    self.assertEqual(self._directions(), set(DIRECTIONS))
    self.assertEqual(self._directions("--quick"), set(DIRECTIONS))

  def test_functions_can_be_chosen(self):
    self.assertEqual(self._directions("--direction", "fwd", "bwd_w"), {"fwd", "bwd_w"})
    self.assertEqual(self._directions("--suite", "dilated", "--direction", "fwd"), {"fwd"})

  def test_a_run_of_some_functions_is_not_kept_as_one_of_everything(self):
    everything, some = arguments.parse([]), arguments.parse(["--direction", "fwd"])
    self.assertNotEqual(some.out, everything.out)
    self.assertEmpty(some.studies)

  def test_a_row_of_one_function_races_no_cases_of_others(self):
    self.assertEqual(self._directions("--where", "matmul"), {"bwd_d"})


class ProblemTest(absltest.TestCase):
  def test_paddings_are_tensorflows(self):
    described = problem.describe(Case.parse("mb1_id8x9x10_ic1oc1_k3x2x1s2x1x4d1_ndhwc_f32"))
    self.assertEqual(described["lead"], (0, 0, 0))
    self.assertEqual(described["trail"], (1, 1, 0))

  def test_bytes_are_those_of_all_three_tensors(self):
    case = Case.parse("mb2_id4_ic3oc5_k2s2d1_ndhwc_f16")
    for direction in DIRECTIONS.values():
      case = dataclasses.replace(case, direction=direction)
      self.assertEqual(problem.tensor_bytes(case), 2 * (2 * 64 * 3 + 8 * 3 * 5 + 2 * 8 * 5))

  def test_what_a_contestant_knows_is_all_that_the_op_takes(self):
    case = Case.parse(_CASE)
    for direction in DIRECTIONS.values():
      described = problem.describe(dataclasses.replace(case, direction=direction))
      self.assertEqual(described["op"], direction.op)
      tensors = {*described["operands"], *described["arguments"]} - case.attributes().keys()
      self.assertEqual(tensors, set(direction.tensors))


class PeersTest(parameterized.TestCase):
  """Whoever is installed computes each of the three functions."""

  # More padding behind than in front, two groups, channels first; and half precision.
  CASES = (
    "mb2_id8x7x9_ic4oc6g2_k3x2x5s2x1x2d1_ncdhw_f32", "mb1_id8_ic3oc2_k4x3x2s2d1_ndhwc_bf16"
  )  # fmt: skip

  @parameterized.parameters(
    "tf/op.eager", "tf/raw.compiled", "torch/contiguous", "torch/channels_last_3d", "jax/jit"
  )
  def test_result_is_the_oracle_s(self, contestant):
    program, name = contestant.split("/")
    workers = Workers()
    self.addCleanup(workers.close)
    if not workers.can_have(program):
      self.skipTest(f"{program} is not installed")
    for case, direction in itertools.product(map(Case.parse, self.CASES), DIRECTIONS.values()):
      case = dataclasses.replace(case, direction=direction)
      folder = pathlib.Path(self.create_tempdir().full_path)
      expected.save(case, problem.save_tensors(case, folder), folder)
      worker = workers.get(program)
      worker.ask("load", folder=str(folder), problem=problem.describe(case))
      answer = worker.ask("prepare", contestant=name)
      self.assertLess(answer["error"], expected.TOLERANCE[case.dtype] / 10, f"{case}: {answer}")


class SummaryTest(absltest.TestCase):
  def test_ratio_is_to_the_best_of_the_others(self):
    row = next(row for row in rows.ROWS if row.where == "default")
    seconds = {row.ours[0]: 2.0, row.theirs[0]: 6.0, row.theirs[1]: 4.0}
    self.assertEqual(row.ratio(Case.parse(_CASE), seconds), 2.0)

  def test_ratio_of_a_row_of_two_ways_is_the_better_one_s_if_both_ran(self):
    row = next(row for row in rows.ROWS if len(row.ours) == 2)
    seconds = {row.ours[0]: 3.0, row.ours[1]: 2.0, row.theirs[0]: 6.0, row.theirs[1]: 8.0}
    self.assertEqual(row.ratio(Case.parse(_CASE), seconds), 3.0)
    del seconds[row.ours[0]]
    self.assertIsNone(row.ratio(Case.parse(_CASE), seconds))

  def test_each_function_counts_in_rows_of_its_own(self):
    ran = {name: _ran(1.0) for row in rows.ROWS for name in row.contestants}
    found = summary.lines({_CASE: ran, f"{_CASE}_fwd": ran, f"{_CASE}_bwd_w": ran})
    for line in found:
      self.assertEqual([Case.parse(case).direction for case in line.ratios], [line.row.direction])
    self.assertEqual({line.row.direction for line in found}, set(DIRECTIONS.values()))

  def test_tables_of_themes_are_by_function(self):
    found = results.Results(pathlib.Path(), {})
    ran = {name: _ran(1.0) for row in rows.ROWS for name in row.contestants}
    found.cases = {_CASE: ran, f"{_CASE}_fwd": ran}
    self.assertEqual(
      [table.title for table in tables.by_theme(found)],
      ["other: the gradient in the input", "other: the convolution"],
    )

  def test_rate_is_compared_to_the_matrix_product_s(self):
    row = next(row for row in rows.ROWS if row.where == "matmul")
    case = Case.parse("mb1_id32_ic32oc64_k3s1d1_ndhwc_f32")
    seconds = {row.ours[0]: 1.0, rows.MATMUL: 1.0}
    self.assertAlmostEqual(row.ratio(case, seconds), case.flops / rows.MATMUL_FLOPS)

  def test_cases_that_the_others_refuse_are_not_counted(self):
    (line,) = summary.lines({
      _CASE: {_OURS: _ran(1.0), _THEIRS: _ran(30.0)},
      "mb1_id9_ic2oc3_k3s2d1_ndhwc_f32": {
        _OURS: _ran(1.0), _THEIRS: {"failed": "refused"}
      },
    })  # fmt: skip
    self.assertEqual(line.ratios, {_CASE: 30.0})
    self.assertLen(line.refused, 1)

  def test_a_wrong_result_of_the_op_is_a_failure_however_fast(self):
    other = "mb1_id9_ic2oc3_k3s2d1_ndhwc_f32"
    (line,) = summary.lines({
      _CASE: {_OURS: _ran(1.0, error=0.1), _THEIRS: _ran(30.0)},
      other: {_OURS: _ran(1.0), _THEIRS: _ran(30.0)},
    })
    self.assertEqual(line.failed, (_CASE,))
    self.assertEqual(line.ratios, {other: 30.0})

  def test_cases_on_which_the_op_is_slower_are_counted(self):
    (line,) = summary.lines({
      f"mb1_id{size}_ic2oc3_k3s2d1_ndhwc_f32": {
        _OURS: _ran(1.0), _THEIRS: _ran(theirs)
      }
      for size, theirs in ((7, 0.5), (8, 1.0), (9, 2.0), (10, 0.9))
    })  # fmt: skip
    self.assertEqual(line.slower, 2)
    self.assertEqual(line.worst, ("mb1_id7_ic2oc3_k3s2d1_ndhwc_f32", 0.5))

  def test_network_totals_count_every_layer_as_often_as_it_occurs(self):
    layers = NETWORKS["highres3dnet"].layers
    outcomes = {layer: {_OURS: _ran(1.0), _THEIRS: _ran(3.0)} for layer in layers}
    totals = summary.network_totals(outcomes)["highres3dnet"]
    self.assertEqual(totals[_OURS]["seconds"], sum(layers.values()))
    self.assertEqual(
      summary.network_ratio(_COMPILED, outcomes, "highres3dnet"), (3.0, len(layers))
    )


class ResultsTest(absltest.TestCase):
  def test_what_was_saved_is_loaded(self):
    saved = results.Results(pathlib.Path(self.create_tempdir().full_path), {"minutes": 1})
    saved.cases = {
      _CASE: {_OURS: _ran(1.0), "jax/jit": {"failed": "refused"}},
      "mb1_id9_ic2oc3_k3s2d1_ndhwc_f32": {"torch/contiguous": _ran(2.0)},
    }
    saved.studies = {"memory": {_CASE: {"op.eager": {"added": 5, "error": 0.0}}}}
    saved.save()
    loaded = results.Results.load(saved.folder)
    self.assertEqual(vars(loaded), vars(saved))

  def test_those_of_the_repository_can_be_read_and_are_whole(self):
    found = results.Results.load(pathlib.Path(results.__file__).parent)
    everything = {case for suite in cases.SUITES.values() for case in suite}
    raced = {Case.parse(case).direction for case in found.cases}
    for direction in raced:
      self.assertEqual(_of(direction, found.cases), _of(direction, everything))
      self.assertEqual(
        [line.row for line in summary.lines(found.cases, direction)],
        [row for row in rows.ROWS if row.direction == direction],
      )


class FitCostsTest(absltest.TestCase):
  def test_every_constant_matters_to_some_time_of_each_processor(self):
    for processor, by_case in fit_costs.load().items():
      times = fit_costs.problems(by_case)
      now = fit_costs.quality(times, {})
      for name, module in fit_costs.CONSTANTS.items():
        value = getattr(module, name)
        value = value[tf.float32] if isinstance(value, dict) else value
        self.assertEqual(fit_costs.quality(times, {name: value}), now, name)
        self.assertNotEqual(fit_costs.quality(times, {name: 1.5 * value}), now, (name, processor))

  def test_predictions_are_as_good_as_documented_on_several_processors(self):
    times = fit_costs.load()
    self.assertGreater(len(times), 1)
    for processor, by_case in times.items():
      found = fit_costs.quality(fit_costs.problems(by_case), {})
      self.assertBetween(found.regret, 0, 0.16, processor)
      self.assertBetween(found.level, -0.2, 0.2, processor)
      self.assertBetween(found.spread, 0, 0.35, processor)

  def test_every_plan_of_a_case_is_timed_once(self):
    timed = fit_costs.measured(
      Case.parse("mb1_id4_ic2oc2_k2x1x1s1d1_ndhwc_f32"), most=None, worth=float("inf")
    )
    plans = [plan for plan, _ in timed]
    self.assertCountEqual({plan.gathered for plan in plans}, {(False,) * 3, (True, False, False)})
    self.assertLen(set(plans), len(plans))
    self.assertTrue(all(plan.in_xla and seconds > 0 for plan, seconds in timed))


class ChoiceTest(parameterized.TestCase):
  @parameterized.product(direction=("", "_fwd", "_bwd_w"), where=("eager", "graph", "compiled"))
  def test_all_that_is_offered_is_timed_the_chosen_one_first(self, direction, where):
    case = Case.parse(f"mb1_id5_ic3oc4_k3s1d1_ndhwc_f32{direction}")
    ours = [way for way in choice.timed(case, where) if way.is_ours]
    function = {each.op: each for each in functions.ALL}[case.direction.op]
    asked, *_ = validation.validate(function, **case.arguments(0))
    here = dataclasses.replace(
      Environment.here(asked.dtype), in_xla=where == "compiled", in_graph=where != "eager"
    )
    self.assertEqual([way.name for way in ours], [
      str(offer) for offer in policy.choices(function, asked, here)
    ])  # fmt: skip
    self.assertGreater(min(way.seconds for way in ours), 0)


class _FakeWorker:
  """Answers without computing anything; `slow` takes its time, `dead` ends the program."""

  def __init__(self):
    self.folder = None

  def ask(self, do, patience_s=60, contestant="", **arguments):
    del patience_s, arguments
    if contestant == "refusing":
      return {"failed": "InvalidArgumentError: no"}
    if contestant == "dead":
      raise WorkerError("ended with status -6")
    seconds = 100.0 if contestant == "slow" else 1.0
    return {
      "load": {},
      "prepare": {"first_s": seconds, "error": 1e-7},
      "sample": {"seconds": seconds / 2},
    }[do]


class _FakeWorkers:
  """One program for everybody, started again after it has ended."""

  absent: dict[str, str] = {}

  def __init__(self):
    self._worker = _FakeWorker()

  def get(self, name):
    del name
    return self._worker

  def drop(self, name):
    del name
    self._worker = _FakeWorker()

  def forget_tensors(self):
    pass


class RaceTest(absltest.TestCase):
  def _race(self, *contestants):
    names = [f"tf/{contestant}" for contestant in contestants]
    found = race.race(Case.parse(_CASE), names, _FakeWorkers(), race.Pace())
    return [found[name] for name in names]

  def test_medians_are_of_the_calls_after_the_first(self):
    (outcome,) = self._race("good")
    self.assertEqual((outcome["median_s"], outcome["first_s"]), (0.5, 1.0))

  def test_who_is_hopelessly_slow_is_called_once(self):
    (outcome,) = self._race("slow")
    self.assertEqual(outcome["median_s"], 100.0)

  def test_a_refusal_is_no_time(self):
    self.assertEqual(self._race("refusing"), [{"failed": "InvalidArgumentError: no"}])

  def test_who_brings_the_program_down_does_not_stop_its_rivals(self):
    dead, good = self._race("dead", "good")
    self.assertIn("status -6", dead["failed"])
    self.assertEqual(good["median_s"], 0.5)


if __name__ == "__main__":
  absltest.main()

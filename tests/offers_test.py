"""Which overlap-adds are offered: how much each computes at a time, and what that holds."""

import itertools
import math
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad import explain
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering import tiles
from tf_conv3d_grad.lowering.overlap_add import costs, offers
from tf_conv3d_grad.lowering.overlap_add.offers import MAX_COLUMN_BYTES
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
from tf_conv3d_grad.problem import geometry
from tf_conv3d_grad.problem.layout import CHANNELS_FIRST, CHANNELS_LAST
from tf_conv3d_grad.tensorflow import private

ARE_QUICK = True
BUDGETS = (MAX_COLUMN_BYTES, 16 << 20, 6 << 20)


def problem_of(text):
  """Returns the canonical problem, without making its tensors."""
  case = Case.parse(text)
  shapes = case.filter_shape, case.out_backprop_shape
  specs = [tf.TensorSpec(shape, case.dtype) for shape in shapes]
  return explain(case.input_sizes, *specs, **case.attributes()).problem.canonical


def held(problem, plan):
  return costs.of_plan(problem, plan).column_bytes


class TiledTest(parameterized.TestCase):
  """How much of a problem is computed at a time."""

  @parameterized.product(
    size=("64", "40x50x60", "97x31x64", "16x256x256"),
    window=("k3s1d1", "k5s1d2", "k4s2d1", "k3x3x1s2x1x1d1", "k2s3x2x1d1"),
    batch=(1, 3),
  )
  def test_it_holds_what_is_allowed_and_nearly_as_much(self, size, window, batch):
    problem = problem_of(f"mb{batch}_id{size}_ic32oc32_{window}_ndhwc_f32")
    depth, height, _ = problem.axes
    one = problem.replace(batch=1)
    plan = Plan((False, height.taps > 1, False))
    sample = held(one, plan)
    plane = held(one, Plan(plan.gathered, tile=(depth.stride, None)))
    for budget, (found, cost) in zip(BUDGETS, offers.tiled(problem, plan)):
      planes, rows = found.tile
      self.assertEqual(cost, costs.of_plan(problem, found))
      self.assertEqual(found.gathered, plan.gathered)
      if sample <= budget:
        self.assertEqual(found.tile, (None, None))
        self.assertEqual(found.samples, tiles.samples_within(batch, sample, budget))
        continue
      self.assertIsNone(found.samples)
      self.assertEqual(planes % depth.stride, 0)
      if plane <= budget:
        self.assertIsNone(rows)
        self.assertLessEqual(held(one, found), budget)
        # Somewhat less may be cut off behind the last tile.
        most = budget // plane * depth.stride
        self.assertBetween(planes, min(most, depth.input) / 2 - depth.stride, most)
        continue
      self.assertEqual(planes, depth.stride)
      if plane <= MAX_COLUMN_BYTES:
        self.assertIsNone(rows)
        continue
      least = max(height.stride, geometry.extent(height.taps, height.dilation))
      self.assertEqual(rows % height.stride, 0)
      self.assertGreaterEqual(rows, least)
      if held(one, found) > budget:  # as little as the filter's extent lets it be
        count = max(1, height.input // least)
        self.assertEqual(rows // height.stride, -(-height.input // (count * height.stride)))
      else:
        # One tile less, and it would be too large.
        longer = -(-height.input // (-(-height.input // rows) - 1))
        longer = -(-longer // height.stride) * height.stride
        tile = (depth.stride, longer)
        self.assertGreater(held(one, Plan(plan.gathered, tile=tile)), budget)

  def test_nothing_is_cut_off_where_tiles_of_more_than_half_that_length_fit_in(self):
    uneven = 0
    for length in range(30, 70):
      problem = problem_of(f"mb1_id{length}x32x32_ic32oc32_k3s1d1_ndhwc_f32")
      for plan, _ in offers.tiled(problem, Plan((False, True, False))):
        tile = plan.tile[0]
        if length % tile:
          uneven += 1
          divisors = [d for d in range(tile // 2 + 1, tile) if length % d == 0]
          self.assertEmpty(divisors, (length, tile))
    self.assertGreater(uneven, 0)


class GatherableTest(absltest.TestCase):
  def test_axes_of_several_taps_that_overlap_are_if_they_have_at_most_27_neighbours(self):
    for taps, strides in itertools.product(
      itertools.product((1, 2, 3, 4), repeat=3), ((1, 1, 1), (1, 2, 3))
    ):
      text = "k{}x{}x{}s{}x{}x{}d1".format(*taps, *strides)
      problem = problem_of(f"mb1_id12_ic2oc3_{text}_ndhwc_f32")
      expected = {
        chosen
        for chosen in itertools.product((False, True), repeat=3)
        if math.prod(t for t, c in zip(taps, chosen) if c) <= 27
        and not any(c and (t == 1 or a.is_shuffled) for t, c, a in zip(taps, chosen, problem.axes))
      }
      self.assertCountEqual(offers.gatherable(problem), expected, text)


class LayoutsTest(parameterized.TestCase):
  @parameterized.parameters(
    ("ndhwc", 16, 1, {(CHANNELS_LAST, CHANNELS_LAST)}),
    ("ndhwc", 16, 2, {(CHANNELS_LAST, CHANNELS_LAST), (CHANNELS_LAST, CHANNELS_FIRST)}),
    ("ndhwc", 16, 8, {(CHANNELS_LAST, CHANNELS_LAST), (CHANNELS_LAST, CHANNELS_FIRST)}),
    ("ndhwc", 16, 9, {(CHANNELS_LAST, CHANNELS_LAST)}),
    ("ncdhw", 15, 9, {(CHANNELS_LAST, CHANNELS_LAST)}),
    ("ncdhw", 16, 9, {(CHANNELS_FIRST, CHANNELS_FIRST)}),
    ("ncdhw", 16, 8, {(CHANNELS_LAST, CHANNELS_FIRST)}),
  )
  def test_columns_are_channels_first_for_few_channels_and_for_wide_channels_first_results(
    self, data_format, width, channels, expected
  ):
    problem = problem_of(f"mb1_id4x4x{width}_ic{channels}oc16_k3s1d1_{data_format}_f32")
    self.assertEqual({*offers.layouts(problem)}, expected)
    self.assertLen(offers.layouts(problem), len(expected))


class PlansTest(parameterized.TestCase):
  @parameterized.parameters(True, False)
  def test_there_is_one_for_each_set_of_axes_and_layout_the_cheapest_first(self, in_xla):
    problem = problem_of("mb2_id40_ic4oc16_k3x2x3s1d1_ndhwc_f32")
    with mock.patch.object(private, "onednn_enabled", return_value=True):
      plans = offers.plans(problem)
    found = plans.inside if in_xla else plans.outside
    self.assertLen(found, len(offers.gatherable(problem)) * 2)
    self.assertLen({(plan.gathered, plan.columns) for plan, _ in found}, len(found))
    seconds = [cost.seconds for _, cost in found]
    self.assertEqual(seconds, sorted(seconds))
    for plan, cost in found:
      self.assertEqual(plan.in_xla, in_xla)
      of_set = offers.tiled(problem, plan.untiled())
      largest, _ = of_set[0]
      if in_xla and (largest.tile != (None, None) or largest.samples is not None):
        del of_set[0]
      self.assertEqual(cost.seconds, min(each.seconds for _, each in of_set))

  @parameterized.parameters((True, 36), (False, 24))
  def test_inside_of_xla_few_channels_are_all_at_once_unless_pages_would_be_cleared(
    self, onednn, most
  ):
    with mock.patch.object(private, "onednn_enabled", return_value=onednn):
      inside = offers.plans(problem_of("mb1_id48_ic3oc32_k3s1d1_ndhwc_f32")).inside
      smaller = offers.plans(problem_of("mb1_id40_ic3oc16_k3s1d1_ndhwc_f32")).inside
    self.assertBetween(max(cost.column_bytes for _, cost in inside) / 2**20, most / 3, most)
    self.assertEqual(inside[0][0].tile == (None, None), onednn)
    self.assertEqual(smaller[0][0].tile, (None, None))

  def test_inside_of_xla_columns_fit_a_cache(self):
    # 36 MB of columns, which is fewer operations, but slower where each operation is none.
    problem = problem_of("mb1_id32_ic32oc64_k3s1d1_ndhwc_f32")
    inside, outside = (
      max(held(problem, plan) for plan, _ in plans) for plans in offers.plans(problem)
    )
    self.assertLessEqual(inside, 16 << 20)
    self.assertGreater(outside, 16 << 20)

  @parameterized.parameters((4, True), (5, False))
  def test_all_axes_gathered_for_few_out_channels_have_rows_channels_first(self, channels, first):
    problem = problem_of(f"mb1_id12_ic16oc{channels}_k3s1d1_ndhwc_f32")
    for plan, _ in offers.plans(problem).inside:
      rows = CHANNELS_FIRST if first and all(plan.gathered) else CHANNELS_LAST
      self.assertEqual(plan.rows, rows)

  @parameterized.parameters(
    ("ndhwc", 16, CHANNELS_LAST), ("ncdhw", 15, CHANNELS_LAST), ("ncdhw", 16, CHANNELS_FIRST)
  )
  def test_a_depthwise_one_shifts_in_the_format_of_the_result_where_that_is_wide(
    self, data_format, width, layout
  ):
    problem = problem_of(f"mb1_id4x4x{width}_ic4oc4g4_k3s1d1_{data_format}_f32")
    ((plan, _),) = offers.plans(problem).outside
    self.assertEqual(plan, Plan((True, True, True), layout, layout))


class CanUnrollTest(parameterized.TestCase):
  @parameterized.parameters(
    ("id200x1x1_ic2oc2_k64x1x1s1d1", True),
    ("id200x1x1_ic2oc2_k65x1x1s1d1", False),
    ("id200x1x1_ic2oc2_k3x1x1s64x1x1d1", True),
    ("id40x40x40_ic2oc2_k5s4d1", True),  # 64 phases
    ("id40x40x40_ic2oc2_k6x6x6s5x4x4d1", False),
    ("id200x1x1_ic2oc2_k100x1x1s100x1x1d1", True),  # nothing overlaps
  )
  def test_up_to_64_taps_an_axis_and_64_phases(self, text, expected):
    self.assertEqual(offers.can_unroll(problem_of(f"mb1_{text}_ndhwc_f32_valid")), expected)


if __name__ == "__main__":
  absltest.main()

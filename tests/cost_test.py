"""What ways of computing are expected to take, and to hold."""

import dataclasses
import functools
import itertools
import math
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.lowering import cost
from tf_conv3d_grad.lowering.cost import Cost
from tf_conv3d_grad.lowering.im2col import Im2col
from tf_conv3d_grad.lowering.kernel import costs as of_kernel
from tf_conv3d_grad.lowering.kernel.plan import Plan as KernelPlan
from tf_conv3d_grad.lowering.overlap_add import OverlapAdd, offers
from tf_conv3d_grad.lowering.overlap_add import costs as of_overlap_add
from tf_conv3d_grad.lowering.overlap_add.plan import Plan
from tf_conv3d_grad.lowering.xla_onednn import costs as of_xla_onednn
from tf_conv3d_grad.lowering.xla_onednn import forward
from tf_conv3d_grad.lowering.xla_onednn.plan import Plan as XlaOnednnPlan
from tf_conv3d_grad.problem import functions
from tf_conv3d_grad.problem.functions import BACKPROP_FILTER, BACKPROP_INPUT, CONV3D
from tf_conv3d_grad.problem.layout import CHANNELS_FIRST, CHANNELS_LAST
from tf_conv3d_grad.tensorflow import processor
from tf_conv3d_grad.tensorflow.environment import Environment

ARE_QUICK = True

CASES = (
  "mb2_id6x5x7_ic3oc4_k3s1d1_ndhwc_f32",
  "mb1_id8_ic4oc6g2_k3s2d1_ncdhw_f64_valid",
  "mb2_id4x5x3_ic8oc8g4_k2x3x3s1d1_ndhwc_f16",
)


def problem_of(text):
  return validation.validate(BACKPROP_INPUT, **Case.parse(text).arguments())[0]


def products(function, *operands):
  """Returns the bytes of each matrix product's first operand and of its result."""
  graph = tf.function(function, autograph=False).get_concrete_function(*operands).graph
  found = [op for op in graph.get_operations() if op.type.startswith(("MatMul", "BatchMatMul"))]

  def held(tensor):
    return tensor.shape.num_elements() * tensor.dtype.size

  return [(held(op.inputs[0]), held(op.outputs[0])) for op in found]


class ArithmeticTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_useful_arithmetic_and_tensors_are_those_of_the_case(self, text):
    case, problem = Case.parse(text), problem_of(text)
    self.assertEqual(cost.flops(problem), case.flops)
    shapes = case.filter_shape, case.input_sizes, case.out_backprop_shape
    size = tf.as_dtype(case.dtype).size
    self.assertEqual(cost.tensor_bytes(problem), size * sum(map(math.prod, shapes)))

  def test_a_loop_as_long_as_it_takes_for_half_the_rate_reaches_half_of_it(self):
    self.assertEqual(cost.efficiency(20, 20), 0.5)
    self.assertEqual(cost.efficiency(cost.HALF_RATE_LENGTH), 0.5)
    rates = [cost.efficiency(length) for length in (0, 1, 2, 16, 1000)]
    self.assertEqual(rates, sorted(rates))
    self.assertGreater(rates[0], 0)  # to be divided by
    self.assertLess(rates[-1], 1)

  @parameterized.parameters((True, 16), (False, 8))
  def test_channels_fill_vectors_of_16_or_8(self, has_avx512, lanes):
    with mock.patch.object(processor, "onednn_has_avx512", return_value=has_avx512):
      self.assertEqual(cost.filled(16), 1)
      self.assertEqual(cost.filled(3 * lanes), 1)
      self.assertEqual(cost.filled(2 * lanes + lanes // 2), 2.5 / 3)

  @parameterized.parameters(True, False)
  def test_one_vector_of_channels_is_half_filled_without_avx512_too(self, has_avx512):
    with mock.patch.object(processor, "onednn_has_avx512", return_value=has_avx512):
      self.assertEqual([cost.filled(channels) for channels in (4, 8)], [0.25, 0.5])
      self.assertEqual(cost.filled(0), 1 / 16)  # to be divided by

  def test_the_fewer_axes_have_taps_the_sooner_it_compiles(self):
    pointwise, of_one_axis, *of_more = (
      cost.compiling(problem_of(f"mb1_id8_ic4oc4_k{taps}s1d1_ndhwc_f32"))
      for taps in ("1", "1x3x1", "3x1x3", "3")
    )
    self.assertBetween(pointwise, 0.01, 0.5)
    self.assertBetween(of_one_axis, pointwise, 0.9)
    self.assertEqual(of_more, [1, 1])

  def test_a_compiled_function_has_to_be_called(self):
    inside = Cost(0.25, 7)
    self.assertEqual(inside.called(), Cost(0.25 + cost.COMPILED_CALL_SECONDS, 7))


class KernelTest(absltest.TestCase):
  ONEDNN = KernelPlan("CPU", True, tf.float32, "NDHWC")
  EIGEN = KernelPlan("CPU", False, tf.float32, "NDHWC")

  def test_time_grows_with_the_batch_and_the_filter(self):
    small = problem_of("mb2_id8_ic16oc16_k3s1d1_ndhwc_f32")
    for plan in (self.ONEDNN, self.EIGEN):
      for text in ("mb4_id8_ic16oc16_k3s1d1_ndhwc_f32", "mb2_id8_ic16oc16_k5s1d1_ndhwc_f32"):
        for function in functions.ALL:
          larger = of_kernel.of_plan(function, problem_of(text), plan)
          self.assertGreater(larger.seconds, of_kernel.of_plan(function, small, plan).seconds)

  def test_a_group_is_a_call_and_tensors_are_split_and_joined(self):
    whole = problem_of("mb1_id4_ic32oc32_k1s1d1_ndhwc_f32")
    grouped = problem_of("mb1_id4_ic32oc32g16_k1s1d1_ndhwc_f32")
    for plan in (self.ONEDNN, self.EIGEN):
      alone, together = (
        of_kernel.of_plan(CONV3D, each, plan).seconds for each in (whole, grouped)
      )
      self.assertGreater(together - alone, 14 * of_kernel._KERNEL_CALL)

  def test_another_dtype_than_the_calls_is_a_cast_of_all_tensors(self):
    halves = problem_of("mb1_id8_ic16oc16_k3s1d1_ndhwc_f16")
    as_it_is = dataclasses.replace(self.ONEDNN, dtype=tf.float16)
    seconds = [of_kernel.of_plan(CONV3D, halves, plan).seconds for plan in (self.ONEDNN, as_it_is)]
    cast = seconds[0] - seconds[1]
    self.assertAlmostEqual(cast, cost.tensor_bytes(halves) / cost.MOVE_RATE)

  def test_without_avx512_everything_takes_longer_most_the_filters_gradient_of_few_channels(self):
    ratios = {}
    for function in functions.ALL:
      for channels in (8, 32):
        problem = problem_of(f"mb1_id24_ic{channels}oc32_k3s1d1_ndhwc_f32")
        seconds = []
        for has_avx512 in (True, False):
          with mock.patch.object(processor, "onednn_has_avx512", return_value=has_avx512):
            seconds.append(of_kernel.of_plan(function, problem, self.ONEDNN).seconds)
        ratios[function.name, channels] = seconds[1] / seconds[0]
    self.assertGreater(min(ratios.values()), 1)
    self.assertEqual(max(ratios, key=ratios.get), (functions.BACKPROP_FILTER.name, 8))


class OverlapAddTest(parameterized.TestCase):
  @parameterized.product(
    text=("mb2_id6x5x7_ic3oc4_k3s1d1_ndhwc_f32", "mb1_id8_ic4oc6g2_k3s2d1_ndhwc_f64_valid",
          "mb2_id5x4x6_ic2oc3_k3x1x3s1d2x1x1_ncdhw_f16"),
    layout=tuple(itertools.product((CHANNELS_LAST, CHANNELS_FIRST), repeat=2)),
  )  # fmt: skip
  def test_columns_that_are_scattered_are_the_bytes_of_the_product(self, text, layout):
    problem, *operands = validation.validate(BACKPROP_INPUT, **Case.parse(text).arguments())
    plan = Plan((False, False, False), *layout)
    expected = of_overlap_add.of_plan(problem.canonical, plan).column_bytes
    compute = functools.partial(OverlapAdd().backprop_input, problem, plan)
    ((_, columns),) = products(compute, *operands)
    self.assertEqual(columns, expected)

  @parameterized.parameters((128, True), (32, False))
  def test_with_groups_neighbours_are_copied_in_runs_of_all_channels(self, out, are_long):
    problem = problem_of(f"mb1_id8_ic64oc{out}g32_k3s1d1_ndhwc_f32")
    plan = Plan((True, True, False))
    seconds = of_overlap_add.of_plan(problem, plan).seconds
    with mock.patch.object(cost, "GATHER_RUN", 100):
      self.assertEqual(of_overlap_add.of_plan(problem, plan).seconds == seconds, are_long)

  def test_tiles_hold_less_and_take_longer_to_loop_over(self):
    problem = problem_of("mb1_id32x16x16_ic8oc8_k3s1d1_ndhwc_f32").canonical
    whole, *tiled = (
      of_overlap_add.of_plan(problem, Plan(tile=(tile, None))) for tile in (None, 16, 8, 4, 2)
    )
    for count, each in zip((2, 4, 8, 16), tiled):
      self.assertLess(each.column_bytes, whole.column_bytes)
      self.assertGreater(each.seconds, whole.seconds + (count - 1) * cost.TILE_SECONDS)
    held = [each.column_bytes for each in tiled]
    self.assertEqual(held, sorted(held, reverse=True))

  def test_a_pointwise_product_is_its_result_and_moves_nothing_else(self):
    pointwise, apart = (
      problem_of(f"mb1_id{cells}_ic96oc96_k1s{stride}d1_ndhwc_f32").canonical
      for cells, stride in ((16, 1), (31, 2))  # as many products
    )
    seconds = of_overlap_add.of_plan(pointwise, Plan()).seconds
    rate = cost.flops(pointwise) / seconds
    self.assertLess(rate, cost.PRODUCT_RATE[tf.float32])
    self.assertGreater(rate, 0.7 * cost.PRODUCT_RATE[tf.float32])
    self.assertGreater(of_overlap_add.of_plan(apart, Plan()).seconds, 1.3 * seconds)

  def test_a_pointwise_product_of_few_channels_takes_as_long_as_its_tensors(self):
    few, more = (problem_of(f"mb1_id32_ic64oc{out}_k1s1d1_ndhwc_f32").canonical for out in (1, 3))
    seconds = [of_overlap_add.of_plan(problem, Plan()).seconds for problem in (few, more)]
    held = [4 * 32**3 * 65, 4 * 32**3 * 67]
    self.assertAlmostEqual(seconds[1] / seconds[0], held[1] / held[0], delta=0.005)

  def test_some_samples_hold_their_part(self):
    problem = problem_of("mb8_id6_ic8oc8_k3s1d1_ndhwc_f32").canonical
    whole = of_overlap_add.of_plan(problem, Plan())
    for samples in (1, 2, 4):
      some = of_overlap_add.of_plan(problem, Plan(samples=samples))
      self.assertEqual(some.column_bytes * 8 // samples, whole.column_bytes)
      self.assertGreater(some.seconds, whole.seconds + (8 // samples - 1) * cost.TILE_SECONDS)

  def test_small_calls_take_up_to_some_milliseconds(self):
    for text in (*CASES, "mb1_id8_ic8oc8g8_k3s1d1_ndhwc_f32", "mb1_id8_ic4oc4_k2s2d1_ncdhw_f32"):
      for plan, inside in offers.plans(problem_of(text).canonical).inside:
        # At the rate of a product, and with each tile of a loop.
        least = cost.flops(problem_of(text)) / cost.PRODUCT_RATE[tf.float32]
        self.assertBetween(inside.seconds, least, 5e-3 + 8 * cost.TILE_SECONDS, (text, plan))

  def test_uncompiled_it_takes_longer(self):
    for text in (*CASES, "mb1_id8_ic4oc4_k2s2d1_ndhwc_f32"):
      canonical = problem_of(text).canonical
      for plan, inside in offers.plans(canonical).outside:
        graph, eager = (
          of_overlap_add.uncompiled(canonical, plan, inside, in_graph) for in_graph in (True, False)
        )
        self.assertBetween(graph.seconds, inside.seconds, eager.seconds)
        self.assertGreaterEqual(graph.column_bytes, inside.column_bytes)

  def test_plans_come_the_least_cost_first(self):
    for text in CASES:
      found = offers.plans(problem_of(text).canonical).inside
      seconds = [inside.seconds for _, inside in found]
      self.assertEqual(seconds, sorted(seconds))

  def test_tiles_fit_memory_and_caches_or_are_one_plane(self):
    problem = problem_of("mb1_id32_ic32oc64_k3s1d1_ndhwc_f32").canonical
    budgets = (offers.MAX_COLUMN_BYTES, *offers._CACHE_COLUMN_BYTES)
    for gathered in ((False, False, False), (True, False, False), (False, True, False)):
      for budget, (plan, inside) in zip(budgets, offers.tiled(problem, Plan(gathered))):
        self.assertLessEqual(inside.column_bytes, offers.MAX_COLUMN_BYTES)
        if plan.tile[0] != 1:
          self.assertLessEqual(inside.column_bytes, budget)


class Im2colTest(parameterized.TestCase):
  @parameterized.product(text=CASES, function=(CONV3D, BACKPROP_FILTER))
  def test_columns_are_the_bytes_of_the_products_operand(self, text, function):
    case = Case.parse(text)
    problem, filter, out_backprop = validation.validate(BACKPROP_INPUT, **case.arguments())
    inside = Environment("CPU", onednn=True, in_xla=True, mode="auto")
    (offer,) = Im2col().offers(function, problem, inside)
    tensors = {"filter": filter, "output": out_backprop}
    tensors["input"] = tf.zeros(case.input_sizes, case.dtype)
    compute = functools.partial(function.of(offer.lowering), problem, offer.plan)
    ((columns, _),) = products(compute, *(tensors[name] for name in function.operands))
    self.assertEqual(columns, offer.cost.column_bytes)

  def test_a_tile_holds_its_part(self):
    problem = problem_of("mb1_id24_ic32oc32_k3s1d1_ndhwc_f32")
    inside = Environment("CPU", onednn=True, in_xla=True, mode="auto")
    (offer,) = Im2col().offers(CONV3D, problem, inside)
    (small,) = Im2col().offers(CONV3D, problem_of("mb1_id12_ic32oc32_k3s1d1_ndhwc_f32"), inside)
    self.assertIsNotNone(offer.plan.depth)
    self.assertIsNone(small.plan.depth)
    count = -(-24 // offer.plan.depth)
    self.assertEqual(offer.cost.column_bytes, 4 * 24**3 * 27 * 32 // count)
    self.assertGreater(offer.cost.seconds, 8 * small.cost.seconds)

  def of_pointwise_filter(self, channels, dtype="f32", **changes):
    problem = problem_of(f"mb1_id32_{channels}_k1s1d1_ndhwc_{dtype}")
    where = {"device": "CPU", "onednn": True, "in_xla": False, "in_graph": True, "mode": False}
    (offer,) = Im2col().offers(BACKPROP_FILTER, problem, Environment(**{**where, **changes}))
    return problem, offer.cost.seconds

  def test_the_gradient_in_a_pointwise_filter_is_a_product_or_as_long_as_its_tensors(self):
    problem, seconds = self.of_pointwise_filter("ic64oc64")
    rate = cost.flops(problem) / seconds
    self.assertBetween(rate / cost.PRODUCT_RATE[tf.float32], 0.5, 1)
    seconds = [self.of_pointwise_filter(channels)[1] for channels in ("ic64oc1", "ic1oc128")]
    self.assertAlmostEqual(seconds[1] / seconds[0], 129 / 65, delta=0.15)

  def test_in_xla_or_by_a_cast_it_takes_longer(self):
    _, seconds = self.of_pointwise_filter("ic64oc64")
    self.assertGreater(self.of_pointwise_filter("ic64oc64", in_xla=True)[1], 1.3 * seconds)
    self.assertGreater(self.of_pointwise_filter("ic64oc64", "bf16")[1], 1.3 * seconds)


class XlaOnednnTest(parameterized.TestCase):
  PLAN = XlaOnednnPlan(tf.float32)

  def of(self, text, function=CONV3D, calls=1, **plan):
    plan = dataclasses.replace(self.PLAN, **plan)
    if function is BACKPROP_FILTER:
      return of_xla_onednn.of_filter_gradient(problem_of(text), plan)
    return of_xla_onednn.of_convolution(function, problem_of(text), plan, calls)

  @parameterized.parameters((CONV3D,), (BACKPROP_INPUT,), (BACKPROP_FILTER,))
  def test_a_large_call_takes_as_long_as_its_arithmetic(self, function):
    text = "mb1_id32_ic64oc64_k3s1d1_ndhwc_f32"
    seconds = self.of(text, function).seconds
    self.assertBetween(seconds / (Case.parse(text).flops / 100e9), 0.7, 2)
    for other in ("mb2_id32_ic64oc64", "mb1_id64x32x32_ic64oc64", "mb1_id32_ic128oc64"):
      more = self.of(f"{other}_k3s1d1_ndhwc_f32", function).seconds
      self.assertBetween(more / seconds, 1.6, 2.2, msg=other)

  def test_a_filter_is_put_in_order_its_taps_turned_around_or_its_groups_moved_besides(self):
    one, four = (f"mb1_id1_ic512oc512{groups}_k3s1d1_ndhwc_f32" for groups in ("", "g4"))
    filter_bytes = 4 * 27 * 512 * 512
    self.assertBetween(self.of(one).seconds, filter_bytes / 10e9, filter_bytes / 2e9)
    self.assertGreater(self.of(four, BACKPROP_INPUT).seconds, 1.2 * self.of(four).seconds)
    turned_cells = self.of(one, BACKPROP_INPUT).seconds
    with mock.patch.object(forward, "has_fewer_cells", return_value=False):
      self.assertGreater(self.of(one, BACKPROP_INPUT).seconds, 1.5 * turned_cells)

  def test_slabs_of_one_tap_do_not_overlap(self):
    one, three = (
      self.of(f"mb1_id32_ic64oc64_k{taps}s1d1_ndhwc_f32", BACKPROP_FILTER, slab=2).seconds
      for taps in ("1", "3x1x1")
    )
    self.assertLess(one, three / 3)

  def test_several_calls_have_results_to_join_and_compile_longer(self):
    text = "mb2_id16_ic16oc16_k3s1d1_ndhwc_f32"
    one, eight = self.of(text), self.of(text, calls=8)
    self.assertGreater(eight.seconds, one.seconds)
    self.assertEqual(eight.compiling, 8 * one.compiling)

  def test_a_loop_over_pieces_compiles_longer_than_one_call(self):
    text = "mb2_id16_ic16oc16_k3s1d1_ndhwc_f32"
    whole = self.of(text, BACKPROP_FILTER)
    for pieces in ({"depth": 4}, {"samples": 1}):
      loop = self.of(text, BACKPROP_FILTER, **pieces)
      self.assertGreater(loop.compiling, whole.compiling)
      self.assertGreater(loop.seconds, whole.seconds)
    self.assertEqual(self.of(text, BACKPROP_FILTER, depth=16).compiling, whole.compiling)

  def test_in_float32_bfloat16_takes_longer(self):
    text = "mb1_id32_ic64oc64_k3s1d1_ndhwc_bf16"
    for function in (CONV3D, BACKPROP_FILTER):
      wide, as_it_is = (self.of(text, function, dtype=each) for each in (tf.float32, tf.bfloat16))
      self.assertGreater(wide.seconds, 1.5 * as_it_is.seconds)


class NoChannelsTest(parameterized.TestCase):
  @parameterized.parameters("in_channels", "out_channels", "batch")
  def test_nothing_has_a_cost_that_is_finite(self, name):
    problem = problem_of(CASES[0])
    changes = {name: 0, **({"filter_in_channels": 0} if name == "in_channels" else {})}
    problem = problem.replace(**changes)
    here = Environment("CPU", onednn=True, in_xla=False, mode="auto")
    for lowering, function in itertools.product(
      (OverlapAdd(), Im2col()), (CONV3D, BACKPROP_INPUT, BACKPROP_FILTER)
    ):
      for offer in lowering.offers(function, problem, here):
        self.assertTrue(math.isfinite(offer.cost.seconds))
        self.assertGreaterEqual(offer.cost.column_bytes, 0)
    eigen = dataclasses.replace(KernelTest.EIGEN, dtype=tf.float64)
    for plan in (KernelTest.ONEDNN, KernelTest.EIGEN, eigen):
      for function in functions.ALL:
        self.assertTrue(math.isfinite(of_kernel.of_plan(function, problem, plan).seconds))


if __name__ == "__main__":
  absltest.main()

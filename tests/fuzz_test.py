"""Random calls, valid and not, end in a right result or an exception that the op documents.

A minute of what `make fuzz` does for half an hour.
"""

import json
import os
import shlex
import time
from unittest import mock

from absl.testing import absltest, parameterized

from tests import fuzzing, testing

CALLS = 30
SEEDS = (1, 2, 3, 4)
WELL = {"way": "eager", "case": "mb1_id4x5x6_ic2oc3_k3s1d1_ndhwc_f32", "seed": 0, "changes": {}}


class FuzzTest(parameterized.TestCase):
  @parameterized.parameters(*SEEDS)
  @testing.sample(1)
  def test_finds_nothing(self, seed):
    count, findings = fuzzing.run(seed, CALLS)
    self.assertEqual("\n".join(map(str, findings)), "")
    self.assertEqual(count, CALLS)


class MakeTest(parameterized.TestCase):
  @parameterized.parameters(
    ("", (1, 4, 5, 6, 2)), ("_fwd", (1, 4, 5, 6, 3)), ("_bwd_w", (3, 3, 3, 2, 3))
  )
  def test_a_valid_call_is_right(self, direction, shape):
    call = {**WELL, "case": WELL["case"] + direction}
    self.assertEqual(fuzzing.make(call), (f"shape {shape}", None))

  @parameterized.product(way=fuzzing.WAYS, dtype=("f16", "f32"), size=(0, 3))
  def test_a_filter_that_does_not_fit_gives_zeros(self, way, dtype, size):
    case = f"mb1_id{size}_ic1oc1_k5s1d1_ndhwc_{dtype}"
    empty = f"tf.zeros([1, 0, 0, 0, 1], '{fuzzing.DTYPES[dtype]}')"
    call = {"way": way, "case": case, "seed": 0}
    for changes in ({"padding": "'VALID'", "out_backprop": empty}, {"padding": "b'VALID'"}):
      outcome, wrong = fuzzing.make({**call, "changes": changes})
      self.assertIsNone(wrong)
      if "out_backprop" in changes or size == 0:
        self.assertEqual(outcome, f"shape {(1, size, size, size, 1)}")
      else:
        self.assertIn(outcome, fuzzing.DOCUMENTED)

  @parameterized.product(
    way=fuzzing.WAYS,
    fault=(("", "input_sizes"), ("_fwd", "dilations"), ("_bwd_w", "filter_sizes")),
  )
  def test_a_malformed_call_is_refused(self, way, fault):
    direction, argument = fault
    call = {**WELL, "way": way, "case": WELL["case"] + direction}
    outcome, wrong = fuzzing.make({**call, "changes": {argument: "[1, 2, 3]"}})
    self.assertIn(outcome, fuzzing.DOCUMENTED)
    self.assertIsNone(wrong)

  @parameterized.parameters("", "_fwd", "_bwd_w")
  def test_other_arguments_may_amount_to_another_valid_call(self, direction):
    call = {**WELL, "case": WELL["case"] + direction, "changes": {"dilations": "[1, 1, 2, 1, 1]"}}
    outcome, wrong = fuzzing.make(call)
    self.assertStartsWith(outcome, "shape ")
    self.assertIsNone(wrong)

  @parameterized.named_parameters(
    ("a_valid_call_that_raises", ValueError("input_sizes"), {}, "a valid call raises ValueError"),
    ("another_exception", KeyError("input_sizes"), {"filter": "1"}, "raises KeyError"),
    ("a_message_without_a_name", ValueError("no"), {"filter": "1"}, "names no argument"),
  )
  def test_a_wrong_exception_is_a_finding(self, error, changes, reason):
    self.assertIn(reason, fuzzing._judged_error({**WELL, "changes": changes}, error))

  def test_a_wrong_result_is_a_finding(self):
    case = fuzzing.Case.parse(WELL["case"])
    arguments = case.arguments()
    result = fuzzing.np.zeros(case.input_sizes, "float32")
    self.assertIn("relative error", fuzzing._judged_result(case, {}, arguments, result))
    arguments["strides"] = [1, 2, 1, 1, 1]
    self.assertIn("malformed", fuzzing._judged_result(case, {"strides"}, arguments, result))

  def test_a_finding_is_a_line_that_makes_the_call_again(self):
    call = {**WELL, "changes": {"padding": "'SAME'", "data_format": '"NDHWC"'}}
    line = str(fuzzing.Finding("abort", json.dumps(call), "exit status -6"))
    words = shlex.split(line, comments=True)
    self.assertEqual(words[:4], ["python", "-m", "tests.fuzzing", "--call"])
    self.assertEqual([json.loads(word) for word in words[4:]], [call])


def abort(call):
  os.abort()


def hang(call):
  time.sleep(60)


class TroubleTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("abort", abort, "abort", "abort"),
    ("hang", hang, "hang", "no answer within 2 s"),
  )
  def test_a_child_in_trouble_is_a_finding(self, trouble, kind, reason):
    with mock.patch.multiple(fuzzing, make=trouble, PATIENCE_SECONDS=2):
      count, findings = fuzzing.run(1, 5)
    self.assertEqual(count, 1)
    self.assertEqual([(each.kind, each.reason) for each in findings], [(kind, reason)])
    self.assertIn("way", json.loads(findings[0].call))

  def test_a_slow_call_is_a_finding(self):
    with mock.patch.object(fuzzing, "HANG_SECONDS", 0):
      self.assertEqual(fuzzing.make(WELL)[1], "shape (1, 4, 5, 6, 2) after 0 s")


if __name__ == "__main__":
  absltest.main()

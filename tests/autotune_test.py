"""Autotuning: what is timed, what is kept of it, and which files are believed."""

import concurrent.futures
import json
import os
import pathlib
import stat
import threading
import warnings
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import tf_conv3d_grad
from tests import testing
from tf_conv3d_grad.arguments import validation
from tf_conv3d_grad.conformance.case import Case
from tf_conv3d_grad.execution import compiled, eager_calls
from tf_conv3d_grad.lowering.interface import Offer
from tf_conv3d_grad.lowering.overlap_add import OverlapAdd
from tf_conv3d_grad.planning import autotune, policy, tuning_file
from tf_conv3d_grad.problem.functions import BACKPROP_INPUT
from tf_conv3d_grad.tensorflow import private, xla_onednn
from tf_conv3d_grad.tensorflow.environment import Environment

CASE = Case.parse("mb1_id5x4x6_ic2oc3_k3s2d1_ndhwc_f32")
OTHER = Case.parse("mb2_id6x4x5_ic3oc2_k2x3x3s1d1_ncdhw_f64")


def call(filter, out_backprop, case=CASE):
  arguments = {**case.arguments(), "filter": filter, "out_backprop": out_backprop}
  return tf_conv3d_grad.Conv3DBackpropInputV2(**arguments)


WAYS = {
  "eager": lambda function: function,
  "graph": tf.function,
  "jit": lambda function: tf.function(function, jit_compile=True),
}


def failing_in_xla(compute):
  """Returns `compute` as it is with a TensorFlow whose XLA cannot compile it."""

  def computed(*arguments):
    if private.in_xla_context():
      raise tf.errors.InternalError(None, None, "no XLA here")
    return compute(*arguments)

  return computed


class PathTest(parameterized.TestCase):
  """Where the file is."""

  @parameterized.parameters(
    ("linux", {"XDG_CACHE_HOME": "/of/mine"}, "/of/mine"),
    ("linux", {}, "/my/home/.cache"),
    ("linux", {"XDG_CACHE_HOME": "not/absolute"}, "/my/home/.cache"),
    ("darwin", {"XDG_CACHE_HOME": "/of/mine"}, "/my/home/Library/Caches"),
    ("win32", {"LOCALAPPDATA": "/of/mine"}, "/of/mine"),
    ("win32", {}, "/my/home/AppData/Local"),
  )
  @testing.sample(6)
  def test_it_is_where_the_system_keeps_what_can_be_made_again(self, system, variables, expected):
    self.enter_context(mock.patch.object(tuning_file.sys, "platform", system))
    self.enter_context(mock.patch.dict(os.environ, {"HOME": "/my/home", **variables}))
    for name in {"XDG_CACHE_HOME", "LOCALAPPDATA"} - set(variables):
      os.environ.pop(name, None)
    path = tuning_file.path()
    self.assertEqual(path.parent, pathlib.Path(expected, "tf_conv3d_grad"))
    self.assertRegex(path.name, r"^autotune-[0-9a-f]{16}\.json$")


class AutotuneTestCase(testing.OpTestCase):
  def setUp(self):
    super().setUp()
    self.cache = pathlib.Path(self.create_tempdir().full_path, "cache")
    settings = {
      autotune.ENVIRONMENT_VARIABLE: "1",
      "XDG_CACHE_HOME": str(self.cache),
      "LOCALAPPDATA": str(self.cache),
      "HOME": str(self.cache),
    }
    self.enter_context(mock.patch.dict(os.environ, settings))
    self.fresh()
    self.addCleanup(self.fresh)
    self.enter_context(warnings.catch_warnings())
    warnings.simplefilter("error", RuntimeWarning)

  def fresh(self):
    """Makes this process one that has called nothing yet."""
    eager_calls.forget()
    autotune.forget()
    tuning_file._warn.cache_clear()

  def assert_call_is_right(self, way="eager", case=CASE):
    filter, out_backprop = testing.tensors(case)
    result = WAYS[way](lambda f, o: call(f, o, case))(filter, out_backprop)
    self.assert_right(case, case.arguments(), result)

  def counted(self):
    """Returns a mock that counts timings."""
    return self.enter_context(mock.patch.object(autotune, "_raced", wraps=autotune._raced))


class TimingTest(AutotuneTestCase):
  @parameterized.product(way=tuple(WAYS), case=(CASE, OTHER))
  def test_the_first_call_is_timed_and_none_after_it_in_any_process(self, way, case):
    timed = self.counted()
    self.assert_call_is_right(way, case)
    self.assertEqual(timed.call_count, 1)
    self.assert_call_is_right(way, case)
    self.fresh()
    self.assert_call_is_right(way, case)
    self.assertEqual(timed.call_count, 1)

  @parameterized.parameters(*WAYS)
  def test_where_no_thread_can_be_started_it_is_timed_all_the_same(self, way):
    timed = self.counted()
    refusal = RuntimeError("can't create new thread at interpreter shutdown")
    with mock.patch.object(threading.Thread, "start", side_effect=refusal):
      self.assert_call_is_right(way)
    self.assertEqual(timed.call_count, 1)

  @parameterized.product(way=tuple(WAYS), place=tuple(range(6)))
  def test_any_winner_gives_the_right_result(self, way, place):
    taken = []

    def pick(calls, operands, expected):
      self.assertEqual(expected, next(iter(calls)))  # what would run if nothing were timed
      taken.append(list(calls)[place % len(calls)])
      return taken[-1]

    self.enter_context(mock.patch.object(autotune, "_raced", pick))
    self.assert_call_is_right(way)
    self.assertLen(taken, 1)
    file = json.loads(tuning_file.path().read_text())
    self.assertEqual(list(file["winners"].values()), [taken[0].fields()])

  def test_candidates_have_fields_and_names_of_their_own(self):
    problem = validation.validate(BACKPROP_INPUT, **CASE.arguments())[0]
    for in_xla in (False, True):
      here = Environment("CPU", onednn=True, in_xla=in_xla, mode="auto")
      offers = policy.candidates(BACKPROP_INPUT, problem, here)
      self.assertGreater(len(offers), 1)
      self.assertEqual(offers[0], policy.choose(BACKPROP_INPUT, problem, here))
      self.assertLen({str(offer) for offer in offers}, len(offers))
      self.assertLen({json.dumps(offer.fields()) for offer in offers}, len(offers))

  def test_the_fastest_wins_unless_the_expected_is_as_fast(self):
    clock = 0.0

    def lasting(seconds):
      def run(*_):
        nonlocal clock
        clock += seconds

      return run

    self.enter_context(mock.patch.object(autotune.time, "perf_counter", lambda: clock))
    calls = {"slow": lasting(0.5), "expected": lasting(0.103), "fast": lasting(0.1)}
    self.assertEqual(autotune._raced(calls, (), "expected"), "expected")
    calls["expected"] = lasting(0.107)
    self.assertEqual(autotune._raced(calls, (), "expected"), "fast")

  def test_a_candidate_that_fails_is_left_out(self):
    compute = autotune._fastest
    failed = []

    def fragile(function, problem, environment, candidates, by_offer):
      def make(offer):
        if offer == candidates[0]:
          failed.append(offer)
          return mock.Mock(side_effect=tf.errors.ResourceExhaustedError(None, None, "no memory"))
        return by_offer(offer)

      return compute(function, problem, environment, candidates, make)

    self.enter_context(mock.patch.object(autotune, "_fastest", fragile))
    self.assert_call_is_right()
    self.assertLen(failed, 1)
    (winner,) = json.loads(tuning_file.path().read_text())["winners"].values()
    self.assertNotEqual(winner, failed[0].fields())

  def test_what_is_wrong_with_one_is_said_once(self):
    compute = autotune._fastest

    def fragile(function, problem, environment, candidates, by_offer):
      def make(offer):
        if offer == candidates[0]:
          return mock.Mock(side_effect=tf.errors.InternalError(None, None, "broken"))
        return by_offer(offer)

      return compute(function, problem, environment, candidates, make)

    self.enter_context(mock.patch.object(autotune, "_fastest", fragile))
    self.addCleanup(autotune._warn.cache_clear)
    with self.assertWarnsRegex(RuntimeWarning, "not timed, as it raised InternalError: broken"):
      self.assert_call_is_right()

  def test_with_and_without_onednn_in_xla_it_is_timed_apart(self):
    timed = self.counted()
    kinds = set()
    for setting in ("1", "0", "1"):
      with mock.patch.dict(os.environ, {xla_onednn.ENVIRONMENT_VARIABLE: setting}):
        self.assert_call_is_right()
        kinds.add(Environment.here(tf.float32).xla_onednn)
    self.assertEqual(timed.call_count, len(kinds))

  def test_candidates_that_xla_cannot_compile_are_left_out(self):
    broken = failing_in_xla(OverlapAdd.backprop_input)
    self.enter_context(mock.patch.object(OverlapAdd, "backprop_input", broken))
    compiled.forget()  # other tests may have compiled what is to fail here
    self.addCleanup(compiled.forget)
    warnings.simplefilter("ignore", RuntimeWarning)
    raced = self.counted()
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
      thread.submit(self.assert_call_is_right, case=OTHER).result(timeout=120)
    problem, _, _ = validation.validate(BACKPROP_INPUT, **OTHER.arguments())
    candidates = policy.candidates(BACKPROP_INPUT, problem, Environment.here(problem.dtype))
    calls, *_ = raced.call_args.args
    self.assertCountEqual(calls, [offer for offer in candidates if not offer.compiled])
    self.assertNotEmpty([offer for offer in candidates if offer.compiled])
    here = Environment.here(problem.dtype)
    self.assertFalse(autotune.known(BACKPROP_INPUT, problem, here).compiled)

  def test_under_a_tape_the_gradient_is_right_and_the_timing_not_recorded(self):
    filter, out_backprop = testing.tensors(CASE)
    with tf.GradientTape() as tape:
      tape.watch(filter)
      loss = tf.reduce_sum(call(filter, out_backprop) ** 2)
    gradient = tape.gradient(loss, filter)
    with mock.patch.dict(os.environ, {autotune.ENVIRONMENT_VARIABLE: "0"}):
      with tf.GradientTape() as tape:
        tape.watch(filter)
        loss = tf.reduce_sum(call(filter, out_backprop) ** 2)
      np.testing.assert_allclose(gradient, tape.gradient(loss, filter), rtol=1e-4)

  def test_sizes_unknown_while_tracing_are_not_timed(self):
    timed = self.counted()
    signature = [tf.TensorSpec([None] * 5), tf.TensorSpec([None] * 5)]
    function = tf.function(call, input_signature=signature)
    self.assert_right(CASE, CASE.arguments(), function(*testing.tensors(CASE)))
    timed.assert_not_called()

  def test_several_threads_time_a_call_once(self):
    timed = self.counted()
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
      list(threads.map(lambda _: self.assert_call_is_right(), range(8)))
    self.assertEqual(timed.call_count, 1)

  def test_explain_says_what_has_won(self):
    filter, out_backprop = testing.tensors(CASE)
    arguments = {**CASE.arguments(), "filter": filter, "out_backprop": out_backprop}
    before = tf_conv3d_grad.explain(**arguments)
    self.enter_context(
      mock.patch.object(autotune, "_raced", lambda calls, *_: list(calls)[-1])
    )
    self.assert_call_is_right()
    after = tf_conv3d_grad.explain(**arguments)
    self.assertNotEqual(after.chosen.fields(), before.chosen.fields())
    self.assertIn(before.chosen, after.called)

  def test_switched_on_after_a_first_call_it_takes_effect(self):
    timed = self.counted()
    for setting, count in (("0", 0), ("1", 1), ("0", 1)):
      with mock.patch.dict(os.environ, {autotune.ENVIRONMENT_VARIABLE: setting}):
        self.assert_call_is_right()
      self.assertEqual(timed.call_count, count)

  @parameterized.parameters("", " ")
  def test_a_setting_that_is_empty_is_none(self, setting):
    timed = self.counted()
    with mock.patch.dict(os.environ, {autotune.ENVIRONMENT_VARIABLE: setting}):
      self.assert_call_is_right()
    timed.assert_not_called()

  def test_a_setting_that_means_nothing_is_refused(self):
    with mock.patch.dict(os.environ, {autotune.ENVIRONMENT_VARIABLE: "maybe"}):
      with self.assertRaisesRegex(ValueError, autotune.ENVIRONMENT_VARIABLE):
        self.assert_call_is_right()

  def test_off_nothing_is_timed_or_written(self):
    timed = self.counted()
    with mock.patch.dict(os.environ, {autotune.ENVIRONMENT_VARIABLE: "0"}):
      self.assert_call_is_right()
    timed.assert_not_called()
    self.assertFalse(self.cache.exists())


def replaced(**changes):
  """Returns what makes a file's content, with some of it changed."""
  return lambda content: json.dumps({**json.loads(content), **changes})


DAMAGED = {
  "empty": lambda content: "",
  "cut off": lambda content: content[: len(content) // 2],
  "not text": lambda content: b"\xff\xfe\x00",
  "a list": lambda content: "[]",
  "nested": lambda content: "[" * 100_000,
  "a number": lambda content: "1e999",
  "another format": replaced(format="something else"),
  "another machine": replaced(made_by={"processor": "another"}),
  "winners are a list": replaced(winners=[1, 2]),
  "a winner has no fields": replaced(winners={"key": "overlap_add"}),
}


class FileTest(AutotuneTestCase):
  def setUp(self):
    super().setUp()
    self.assert_call_is_right()
    self.file = tuning_file.path()
    self.fresh()

  def test_winners_stay_when_plans_are_worded_anew(self):
    timed = self.counted()
    problem, _, _ = validation.validate(BACKPROP_INPUT, **CASE.arguments())
    offers = policy.candidates(BACKPROP_INPUT, problem, Environment.here(problem.dtype))
    for worded in {Offer, *(type(offer.plan) for offer in offers)}:
      self.enter_context(mock.patch.object(worded, "__str__", lambda _: "reworded"))
    self.assertEqual({f"{offer} {offer.plan}" for offer in offers}, {"reworded reworded"})
    self.assert_call_is_right()
    timed.assert_not_called()

  def test_one_in_an_earlier_format_is_replaced_without_a_word(self):
    content = json.loads(self.file.read_text())
    current = content["format"]
    content["format"] = "tf_conv3d_grad autotuning 1"
    content["winners"] = dict.fromkeys(content["winners"], "overlap_add compiled gather DHW")
    self.file.write_text(json.dumps(content))
    timed = self.counted()
    self.assert_call_is_right()
    self.assertEqual(timed.call_count, 1)
    self.assertEqual(json.loads(self.file.read_text())["format"], current)

  def test_there_is_one_for_each_instruction_set_and_number_of_threads(self):
    paths = {self.file}
    for setting in ("AVX2", "AVX512_CORE"):
      with mock.patch.dict(os.environ, ONEDNN_MAX_CPU_ISA=setting):
        tuning_file._made_by.cache_clear()
        paths.add(tuning_file.path())
    with mock.patch.object(
      tf.config.threading, "get_intra_op_parallelism_threads", return_value=77
    ):
      tuning_file._made_by.cache_clear()
      paths.add(tuning_file.path())
    tuning_file._made_by.cache_clear()
    self.assertLen(paths, 4)
    self.assertEqual(tuning_file.path(), self.file)

  def test_it_is_its_owners_only(self):
    self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
    self.assertEqual(stat.S_IMODE(self.file.parent.stat().st_mode), 0o700)
    self.assertEqual(os.listdir(self.file.parent), [self.file.name])

  @parameterized.named_parameters((name.replace(" ", "_"), make) for name, make in DAMAGED.items())
  def test_one_that_is_damaged_or_foreign_is_ignored_with_one_warning(self, make):
    content = make(self.file.read_text())
    self.file.write_bytes(content if isinstance(content, bytes) else content.encode())
    self.assert_is_ignored()
    # and then replaced by one that can be used
    self.fresh()
    timed = self.counted()
    self.assert_call_is_right()
    timed.assert_not_called()

  @parameterized.parameters(0o620, 0o602)
  def test_one_that_others_can_write_is_ignored(self, permissions):
    self.file.chmod(permissions)
    self.assert_is_ignored()

  def test_one_of_another_user_is_ignored(self):
    self.enter_context(mock.patch.object(os, "getuid", lambda: self.file.stat().st_uid + 1))
    self.assert_is_ignored()

  def test_a_pipe_in_its_place_does_not_wait(self):
    self.file.unlink()
    os.mkfifo(self.file)
    self.assert_is_ignored()

  def test_a_folder_in_its_place_or_none_to_write_to_only_warns(self):
    for place in (self.file, self.file.parent):
      testing_file = place.with_suffix(".old")
      place.rename(testing_file)
      place.mkdir() if place == self.file else place.write_text("")
      self.fresh()
      with self.assertWarnsRegex(RuntimeWarning, "autotuning file"):
        self.assert_call_is_right()
      place.rmdir() if place.is_dir() else place.unlink()
      testing_file.rename(place)

  def test_a_winner_that_is_no_candidate_is_timed_again(self):
    code = "__import__('os').abort()"
    content = json.loads(self.file.read_text())
    content["winners"] = dict.fromkeys(content["winners"], {"lowering": code, code: code})
    self.file.write_text(json.dumps(content))
    timed = self.counted()
    self.assert_call_is_right()
    self.assertEqual(timed.call_count, 1)

  def test_one_that_cannot_be_replaced_stays_as_it_was(self):
    before = self.file.read_text()
    self.enter_context(mock.patch.object(os, "replace", side_effect=OSError("no")))
    with self.assertWarnsRegex(RuntimeWarning, "cannot be written"):
      self.assert_call_is_right(case=OTHER)
    self.assertEqual(self.file.read_text(), before)
    self.assertEqual(os.listdir(self.file.parent), [self.file.name])

  def test_what_another_process_has_found_meanwhile_is_kept(self):
    self.counted()
    self.assert_call_is_right()  # has read the file
    content = json.loads(self.file.read_text())
    content["winners"]["of another process"] = {"lowering": "overlap_add"}
    self.file.write_text(json.dumps(content))
    self.assert_call_is_right(case=OTHER)
    self.assertLen(json.loads(self.file.read_text())["winners"], 3)

  def assert_is_ignored(self):
    timed = self.counted()
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      self.assert_call_is_right()
      self.fresh_but_warned()
      self.assert_call_is_right()
    caught = [each for each in caught if "autotuning file" in str(each.message)]
    self.assertLen(caught, 1)
    self.assertIn("is ignored", str(caught[0].message))
    self.assertGreaterEqual(timed.call_count, 1)

  def fresh_but_warned(self):
    eager_calls.forget()
    autotune.forget()


class OldBehaviourTest(absltest.TestCase):
  def test_without_eager_execution_nothing_is_timed(self):
    script = """
import tensorflow as tf
tf.compat.v1.disable_v2_behavior()
import tf_conv3d_grad
result = tf_conv3d_grad.Conv3DBackpropInputV2(
  [1, 4, 5, 6, 2], tf.ones([3, 3, 3, 2, 3]), tf.ones([1, 4, 5, 6, 3]), [1] * 5, "SAME")
print(tf.compat.v1.Session().run(result).shape)
"""
    cache = self.create_tempdir().full_path
    child = testing.run_child(["-c", script], TF_CONV3D_GRAD_AUTOTUNE="1", XDG_CACHE_HOME=cache)
    self.assertEqual(child.stdout.strip(), "(1, 4, 5, 6, 2)", child.stderr[-2000:])
    self.assertNoCommonElements(os.listdir(cache), ["tf_conv3d_grad"])


if __name__ == "__main__":
  absltest.main()

"""The console tool `tf-conv3d-grad`, in this process where that is enough."""

import dataclasses
import errno
import io
import json
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from rich.console import Console

import tf_conv3d_grad
from tests import command_line, testing
from tf_conv3d_grad.cli import (
  check,
  demo,
  malformed,
  report,
  report_tables,
  trial,
)
from tf_conv3d_grad.cli.trial import (
  DIED,
  ERROR,
  OURS,
  RIGHT,
  STOCK,
  TIMEOUT,
  WAYS,
  WRONG,
  Outcome,
  Trial,
  attempt,
)
from tf_conv3d_grad.conformance import children, differential
from tf_conv3d_grad.conformance.case import DATA_FORMATS, DTYPES, Case
from tf_conv3d_grad.conformance.direction import BWD_D, BWD_W, DIRECTIONS, FWD

COMMANDS = ("report", "check", "explain", "demo", "convert")
ALL = tuple(DIRECTIONS.values())
SMALL = "mb1_id2_ic1oc1_k1s1d1_ndhwc_f32"
DILATED = "mb2_id7x5x6_ic4oc6g2_k3x1x2s2x1x1d2x1x3_ncdhw_f16_valid"


class EntryPointTest(command_line.CommandLineTestCase):
  @parameterized.parameters([[]], [["check"]])
  def test_help_does_without_tensorflow(self, command):
    child = testing.run_child(["-X", "importtime", "-m", "tf_conv3d_grad", *command, "--help"])
    self.assertEqual(child.returncode, 0, child.stderr)
    self.assertIn(f"Usage: {' '.join(['tf-conv3d-grad', *command])} [OPTIONS]", child.stdout)
    imported = [line.rpartition("|")[2].strip() for line in child.stderr.splitlines()]
    self.assertIn("tf_conv3d_grad", imported)
    self.assertNotIn("tensorflow", imported)

  @parameterized.parameters(*COMMANDS)
  def test_every_command_has_help(self, command):
    self.assertIn(f"  {command} ", self.invoke("--help"))
    self.assertIn("Options:", self.invoke(command, "--help"))

  def test_the_help_names_every_way_of_calling(self):
    text = "".join(self.invoke("check", "--help").split())
    for way in differential.WAYS:
      self.assertIn(way, text)

  def test_the_script_is_quiet_about_tensorflows_log(self):
    child = self.run_script(["check", SMALL, "--ways", "eager"])
    self.assertEqual(child.returncode, 0, child.stderr)
    self.assertEqual(child.stderr, "")
    self.assertIn("1 cases, 0 failed", child.stdout)

  @parameterized.parameters("click", "rich")
  def test_without_a_library_it_says_what_to_install(self, missing):
    child = self.run_script(["--help"], [missing])
    self.assertEqual(child.returncode, 1)
    self.assertEqual(
      child.stderr, f"tf-conv3d-grad needs {missing}: pip install 'tf_conv3d_grad[cli]'\n"
    )

  def test_without_tensorflow_it_says_what_to_install(self):
    child = self.run_script(["check", SMALL], ["tensorflow"])
    self.assertEqual(child.returncode, 1)
    self.assertLen(child.stderr.splitlines(), 1)
    self.assertRegex(child.stderr, r"^Error: .*pip install .*tensorflow-cpu")

  def test_imported_by_the_script_the_package_is_whole(self):
    child = testing.run_child(
      [
        "-c",
        "import sys; sys.argv = ['/bin/tf-conv3d-grad']; import tf_conv3d_grad;"
        "assert 'tensorflow' not in sys.modules;"
        "assert not hasattr(tf_conv3d_grad, 'nonsense');"
        "names = [getattr(tf_conv3d_grad, name) for name in tf_conv3d_grad.__all__];"
        "assert 'tensorflow' in sys.modules",
      ]
    )
    self.assertEqual(child.returncode, 0, child.stderr)

  @parameterized.parameters([["--help"]], [["explain", SMALL]], [["check", SMALL]])
  @testing.sample(1)
  def test_an_output_that_cannot_be_written_is_said_in_one_sentence(self, arguments):
    child = self.run_script(arguments, before="os.dup2(os.open('/dev/full', os.O_WRONLY), 1)")
    self.assertEqual((child.returncode, child.stderr), (1, "Error: No space left on device\n"))

  def test_so_are_temporary_files(self):
    child = self.run_script(
      ["check", SMALL], before="import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    )
    self.assertEqual((child.returncode, child.stdout), (1, ""))
    self.assertRegex(child.stderr, r"^Error: No usable temporary directory .*\n$")

  def run_script(self, arguments, missing=(), before="pass"):
    return testing.run_child(
      [
        "-c",
        f"import os, sys; sys.argv = ['tf-conv3d-grad', *{arguments!r}]; {before};"
        f"sys.modules.update(dict.fromkeys({missing!r}));"
        "from tf_conv3d_grad import cli; cli.main()",
      ]
    )


class CheckTest(command_line.CommandLineTestCase):
  def test_random_cases_pass(self):
    path = self.output_file("check.json")
    options = ("--cases", "8", "--seed", "5", "--max-size", "6", "--ways", "eager,always")
    output = self.invoke("check", *options, "--json", path)
    self.assertIn("8 cases, 0 failed", output)
    with open(path) as file:
      found = json.load(file)
    self.assertEqual([result["seed"] for result in found["results"]], list(range(5, 13)))
    directions = [Case.parse(result["case"]).direction for result in found["results"]]
    self.assertEqual(directions, [FWD, BWD_D, BWD_W] * 2 + [FWD, BWD_D])
    self.assertEqual(list(found["results"][7]["errors"]), ["eager", "always"])
    self.assertEqual((found["cases"], found["failed"]), (8, 0))
    self.assertEqual(found["machine"]["tensorflow"], tf.__version__)

  def test_they_grow_and_depend_on_nothing_but_the_options(self):
    cases = list(check._random(50, 3, 12, (FWD, BWD_W)))
    self.assertEqual(cases, list(check._random(50, 3, 12, (FWD, BWD_W))))
    self.assertEqual([case.direction for case, _ in cases], [FWD, BWD_W] * 25)
    largest = [max(case.input_size) for case, _ in cases]
    for number, size in enumerate(largest):
      self.assertLessEqual(size, 2 + 10 * number // 49)
    self.assertGreater(np.mean(largest[25:]), 2 * np.mean(largest[:25]) - 1)
    self.assertGreater(max(largest), 9)

  def test_the_random_cases_are_of_the_directions_asked_for(self):
    path = self.output_file("check.json")
    options = ("--cases", "3", "--max-size", "3", "--ways", "eager")
    self.invoke("check", *options, "--dir", "bwd_w", "--json", path)
    with open(path) as file:
      results = json.load(file)["results"]
    self.assertEqual({Case.parse(each["case"]).direction for each in results}, {BWD_W})

  @parameterized.parameters("", "_fwd", "_bwd_w")
  def test_the_worst_error_of_each_dtype_is_shown_beside_what_is_allowed(self, direction):
    cases = [f"mb1_id3_ic2oc2_k2s1d1_ndhwc_{dtype}{direction}" for dtype in DTYPES]
    path = self.output_file("check.json")
    output = self.invoke("check", *cases, "--ways", "eager,never", "--json", path)
    with open(path) as file:
      (worst,) = json.load(file)["worst"].values()
    self.assertEqual(list(worst), list(DTYPES.values()))
    for case, (dtype, found) in zip(cases, worst.items()):
      self.assertEqual(found["case"], case)
      self.assertLessEqual(found["error"], found["tolerance"])
      self.assertRegex(
        output, rf"{dtype} +1 +0 +{found['error']:.1e} +{found['tolerance']:.1e} +{case} --seed 0"
      )

  def test_a_failure_is_made_small_and_printed_as_one_line_that_runs_it_again(self):
    with wrong_where(lambda dilations, dtype: max(dilations) > 1):
      output = self.invoke("check", DILATED, "--seed", "7", "--ways", "eager,graph", status=1)
    smallest = "mb1_id1_ic1oc1_k1s1d1x1x2_ndhwc_f16"
    (line,) = [line for line in output.splitlines() if line.startswith("FAILED ")]
    command, _, reason = line.removeprefix("FAILED ").partition("  # ")
    self.assertEqual(command, f"tf-conv3d-grad check {smallest} --seed 7 --ways eager,graph")
    self.assertIn("the relative error must be at most", reason)
    self.assertIn("1 cases, 1 failed", output)
    self.assertIn("1 cases, 0 failed", self.invoke(*command.split()[1:]))

  def test_it_is_run_again_only_in_the_ways_that_failed(self):
    right = tf_conv3d_grad.Conv3DBackpropInputV2

    def broken_in_graphs(**arguments):
      if not tf.executing_eagerly():
        raise ZeroDivisionError("by zero")
      return right(**arguments)

    with mock.patch.object(tf_conv3d_grad, "Conv3DBackpropInputV2", broken_in_graphs):
      output = self.invoke("check", SMALL, "--ways", "eager,graph", status=1)
    self.assertIn("--seed 0 --ways graph  # graph: ZeroDivisionError: by zero\n", output)

  def test_failures_are_in_the_files_for_machines(self):
    files = self.output_file("check.json"), self.output_file("check.xml")
    with wrong_where(lambda dilations, dtype: dtype == "float16"):
      self.invoke(
        "check", SMALL, DILATED, "--seed", "7", "--ways", "eager",
        "--json", files[0], "--junit-xml", files[1], status=1,
      )  # fmt: skip
    with open(files[0]) as file:
      found = json.load(file)
    right, wrong = found["results"]
    self.assertEqual((found["cases"], found["failed"]), (2, 1))
    self.assertTrue(right["passed"])
    self.assertIsNone(right["smallest"])
    self.assertFalse(wrong["passed"])
    self.assertEqual(wrong["case"], DILATED)
    self.assertEqual(wrong["smallest"]["case"], SMALL.replace("id2", "id1").replace("f32", "f16"))
    self.assertIn("eager: the relative error", wrong["failures"][0])
    worst = found["worst"]["Conv3DBackpropInputV2"]["float16"]
    self.assertGreater(worst["error"], worst["tolerance"])

    suite = ElementTree.parse(files[1]).getroot().find("testsuite")
    self.assertEqual((suite.get("tests"), suite.get("failures")), ("2", "1"))
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    self.assertEqual(properties["tensorflow"], tf.__version__)
    passed, failed = suite.findall("testcase")
    self.assertEqual(passed.get("name"), f"{SMALL} --seed 7")
    self.assertEqual(passed.get("classname"), "tf_conv3d_grad.Conv3DBackpropInputV2.float32")
    self.assertIsNone(passed.find("failure"))
    self.assertIn("eager: the relative error", failed.find("failure").get("message"))
    self.assertEqual(
      failed.find("failure").text.partition("  #")[0], wrong["smallest"]["command"]
    )

  def test_a_nan_is_a_failure_that_json_can_hold(self):
    path = self.output_file("check.json")
    with wrong_where(lambda dilations, dtype: True, by=float("nan")):
      self.invoke("check", SMALL, "--ways", "eager", "--json", path, status=1)
    with open(path) as file:
      found = json.load(file, parse_constant=self.fail)
    self.assertIsNone(found["worst"]["Conv3DBackpropInputV2"]["float32"]["error"])

  def test_of_many_failures_only_the_first_are_made_small(self):
    with wrong_where(lambda dilations, dtype: True), mock.patch.object(
      check, "_shrunk", wraps=check._shrunk
    ) as shrunk:
      output = self.invoke("check", *[SMALL] * 7, "--ways", "eager", status=1)
    self.assertEqual(output.count("FAILED tf-conv3d-grad check"), 7)
    self.assertEqual(shrunk.call_count, 5)

  def test_more_cases_than_one_process_holds_are_run_in_several(self):
    path = self.output_file("check.json")
    with mock.patch.object(check, "_PER_PROCESS", 2):
      self.invoke("check", *[SMALL] * 3, "--seed", "4", "--ways", "eager", "--json", path)
    self.invoke("check", SMALL, "--seed", "4", "--ways", "eager", "--json", f"{path}2")
    with open(path) as several, open(f"{path}2") as one:
      several, one = json.load(several)["results"], json.load(one)["results"]
    for each in several + one:
      self.assertGreater(each.pop("seconds"), 0)
    self.assertEqual(several, one * 3)

  def test_one_that_ends_its_process_has_failed(self):
    case = Case.parse(SMALL)
    answers = [children.Ended("SIGSEGV", None), children.Ended("abort", "Check failed: it")]
    with answering(answers), mock.patch.object(check, "_PER_PROCESS", 1):
      output = self.invoke("check", str(case), str(case), "--seed", "4", status=1)
    for reason in ("SIGSEGV", "abort: Check failed: it"):
      self.assertIn(f"tf-conv3d-grad check {case} --seed 4  # the process ended: {reason}", output)

  def test_a_full_disk_is_said_in_one_sentence(self):
    full = mock.Mock(**{"NamedTemporaryFile.side_effect": OSError(errno.ENOSPC, "No space left")})
    with mock.patch.object(children, "tempfile", full), mock.patch.object(check, "_PER_PROCESS", 1):
      output = self.invoke("check", SMALL, SMALL, status=1)
    self.assertEndsWith(output, "\nError: No space left\n")

  @parameterized.parameters(999_999, 1_999_999)  # the latter are more bytes than have addresses
  def test_a_case_that_no_memory_can_hold_is_said_in_one_sentence(self, size):
    output = self.invoke("check", SMALL.replace("id2", f"id{size}"), status=1)
    self.assertRegex(output, r"\nError: not enough memory: .*\(1, \d+, \d+, \d+, 1\).*\n$")

  def test_coloured_with_a_bar_on_a_terminal_and_plain_elsewhere(self):
    arguments = ("check", SMALL, "--ways", "eager")
    plain = self.invoke(*arguments)
    self.assertNotIn("\x1b", plain)
    self.assertNotIn("1/1", plain)
    terminal = self.invoke(*arguments, FORCE_COLOR="1", TERM="xterm-256color", COLUMNS="120")
    self.assertIn("\x1b[1;32m", terminal)
    self.assertIn("1/1", terminal)

  @parameterized.parameters(
    [["nonsense"]],
    [["mb1_id2_ic1oc1g2_k1s1d1_ndhwc_f32"]],
    [["--ways", "sideways"]],
    [["--dir", "fwd,bwd"]],
    [["--cases", "-1"]],
    [["--max-size", "0"]],
  )
  def test_bad_options_are_refused(self, options):
    self.assertIn("Error: Invalid value", self.invoke("check", *options, status=2))


class ReportTest(command_line.CommandLineTestCase):
  def test_it_makes_every_kind_of_call_in_every_way_with_both_ops(self):
    trials = report._valid_trials(5, ALL)
    self.assertLen(set(trials), 3 * 4 * 2 * 2 * 2 * 3 * 2)
    cases = {Case.parse(each.case) for each in trials}
    kinds = {
      (case.direction, case.dtype, case.data_format, max(case.dilations) > 1, case.groups > 1)
      for case in cases
    }
    self.assertLen(kinds, 3 * 4 * 2 * 2 * 2)
    self.assertEqual({each.function for each in trials}, {each.op for each in ALL})
    self.assertEqual({case.data_format for case in cases}, set(DATA_FORMATS))
    self.assertEqual(
      {(each.op, each.way) for each in trials}, {(op, way) for op in (STOCK, OURS) for way in WAYS}
    )

  def test_calls_are_made_in_child_processes_that_may_die(self):
    trials = report._valid_trials(4, (BWD_D,))
    dilated = [each for each in trials if "d2_ncdhw_f64" in each.case]
    ungrouped = [each for each in dilated if "g2" not in each.case and each.way != "graph"]
    # XLA divides by zero there, with oneDNN or without. Last it needs no other child after it.
    fatal = "filter without in channels, jit"
    of_op = malformed.CALLS["Conv3DBackpropInputV2"]
    calls = {name: of_op[name] for name in ("strides of zero", fatal)}
    path = self.output_file("report.json")
    with mock.patch.object(report, "_valid_trials", lambda *_: ungrouped), mock.patch.dict(
      of_op, calls, clear=True
    ), mock.patch.object(report_tables, "WAYS", ("eager", "compiled")):
      output = self.invoke("report", "--dir", "bwd_d", "--json", path)
    self.assertIn(f"TensorFlow {tf.__version__}, tf_conv3d_grad ", output)
    self.assertRegex(output, r"devices .*CPU:0.*; oneDNN (on|off)")
    # float64, dilated, NCDHW: refused by every build's kernels, computed by XLA.
    self.assertRegex(output, r"float64 +NCDHW +yes +1 +error 1 +[\d.]+ +[\d.]+ +[\d.]+ *\n")
    self.assertRegex(output, r"error 1: InvalidArgumentError: \w")
    self.assertRegex(output, rf"{fatal} +SIGFPE.* ValueError: input_sizes must")
    self.assertRegex(output, "strides of zero +InvalidArgument.* InvalidArgumentError: strides")
    self.assertIn("this op: 2 of 2 valid calls right, 0 of 2 malformed calls ended", output)
    with open(path) as file:
      found = json.load(file)
    statuses = [(call["op"], call["status"]) for call in found["calls"]]
    self.assertEqual(
      statuses,
      [(STOCK, ERROR), (OURS, RIGHT), (STOCK, RIGHT), (OURS, RIGHT)]
      + [(OURS, ERROR), (OURS, ERROR), (STOCK, ERROR), (STOCK, DIED)],
    )
    self.assertGreater(found["calls"][1]["milliseconds"], 0)
    self.assertEqual(found["machine"]["numpy"], np.__version__)

  @parameterized.parameters(
    ({}, 0),
    ({STOCK: Outcome(WRONG, 1.0, message="the shape")}, 0),
    ({OURS: Outcome(WRONG, 1.0, message="the shape")}, 1),
    ({OURS: Outcome(DIED, error="abort")}, 1),
    ({OURS: Outcome(ERROR, error="ValueError", message="no")}, 1),
  )
  def test_the_exit_status_tells_whether_this_op_is_right(self, outcomes, status):
    def perform_all(trials):
      for each in trials:
        usual = Outcome(RIGHT, 1.5) if each.case else Outcome(ERROR, error="E", message="m")
        yield each, outcomes.get(each.op, usual) if each.case else usual

    with mock.patch.object(trial, "perform_all", perform_all):
      output = self.invoke("report", status=status)
    for outcome in outcomes.values():
      self.assertIn({DIED: "abort", ERROR: "error 1"}.get(outcome.status, outcome.status), output)

  def test_each_op_has_a_table_and_that_of_valid_calls_fits_on_a_terminal_of_80_columns(self):
    trials = report._valid_trials(12, ALL)
    tables = report_tables.of_valid_calls([(each, Outcome(RIGHT, 1234.5)) for each in trials])
    self.assertLen(tables, 3)
    for direction, table in zip(ALL, tables):
      self.assertLessEqual(widest_line(table, 80), 80)
      text = rendered(table, 80)
      self.assertStartsWith(text, f"{direction.op}: milliseconds")
      self.assertEqual(text.count("1,234"), 4 * 2 * 2 * 2 * 3 * 2)
      self.assertNotIn("…", text)

  def test_malformed_calls_of_an_op_are_in_a_table_of_its_own(self):
    trials = report._malformed_trials((FWD, BWD_W))
    outcome = Outcome(ERROR, error="ValueError", message="no")
    first, second = report_tables.of_malformed_calls([(each, outcome) for each in trials])
    self.assertStartsWith(rendered(first, 100), "Malformed calls of Conv3D ")
    self.assertIn("filter longer than the input", rendered(first, 100))
    self.assertIn("filter_sizes of one number", rendered(second, 100))


class MakingTest(parameterized.TestCase):
  def test_a_wrong_result_is_told_from_a_right_one(self):
    self.assertEqual(attempt(lambda: 1, judge=lambda _: None).status, RIGHT)
    outcome = attempt(lambda: 1, judge=lambda _: "the shape must be another")
    self.assertEqual((outcome.status, outcome.message), (WRONG, "the shape must be another"))

  def test_an_exception_is_an_outcome(self):
    outcome = attempt(lambda: tf.zeros([2]) + tf.zeros([3]))
    self.assertEqual((outcome.status, outcome.error), (ERROR, "InvalidArgumentError"))
    self.assertNotIn("\n", outcome.message)

  def test_so_is_a_process_that_ends_or_hangs(self):
    answers = [children.Ended("SIGFPE", None), children.Ended(None, "late"), Outcome(RIGHT)]
    trials = [Trial(STOCK, "eager", "Conv3DBackpropInputV2", SMALL)] * 3
    with answering(answers):
      statuses = [outcome.status for _, outcome in trial.perform_all(trials)]
    self.assertEqual(statuses, [DIED, TIMEOUT, RIGHT])


class MalformedTest(parameterized.TestCase):
  @parameterized.parameters(*DIRECTIONS)
  def test_every_call_is_refused_and_those_that_are_well_formed_are_not(self, direction):
    name = DIRECTIONS[direction].op
    op = getattr(tf_conv3d_grad, name)
    result = op(**malformed.WELL_FORMED[name])
    self.assertEqual(result.shape.rank, 5)
    self.assertNotEmpty(malformed.CALLS[name])
    for call in malformed.CALLS[name]:
      with self.subTest(call), self.assertRaises(tf.errors.InvalidArgumentError):
        op(**malformed.arguments(name, call))


class ExplainTest(command_line.CommandLineTestCase):
  @parameterized.product(
    mode=(("true", "True"), ("false", "False"), ("auto", "'auto'")),
    direction=tuple(DIRECTIONS.values()),
  )
  def test_it_prints_what_the_function_says_in_the_mode(self, mode, direction):
    option, shown = mode
    case = dataclasses.replace(Case.parse(DILATED), direction=direction)
    output = self.invoke("explain", str(case), "--mode", option)
    self.assertStartsWith(output, f"{direction.op} in float16")
    self.assertIn(f"jit_compile mode {shown}", output)
    with tf_conv3d_grad.jit_compile({"true": True, "false": False}.get(option, "auto")):
      expected = tf_conv3d_grad.explain(**case.arguments(), op=direction.op)
    self.assertEqual(output, f"{expected}\n")

  @parameterized.parameters(
    "mb99999999999999999999_id3_ic1oc1_k1s1d1_ndhwc_f32",
    "mb1_id9999999_ic1oc1_k1s1d1_ndhwc_f32",
    "mb1_id3_ic1oc1_k9999999s1d1_ndhwc_f32",
    "mb1_id3_ic1oc1_k0s1d4999999_ndhwc_f32_valid",
    "mb1_id3_ic1oc1_k1s1d2147483648_ndhwc_f32",
  )
  def test_sizes_that_no_call_can_have_are_refused(self, case):
    output = self.invoke("explain", case, status=2)
    self.assertRegex(output, "Error: Invalid value for 'CASE': .* must (have|be) .*, got ")


class DemoTest(command_line.CommandLineTestCase):
  def test_both_ops_and_their_gradients_are_shown_in_every_dtype(self):
    with mock.patch.object(demo, "_CALLS", demo._CALLS[::2]):
      output = self.invoke("demo", "--size", "4")
    for dtype in DTYPES.values():
      # Grouped: no build's kernel takes it.
      self.assertRegex(output, rf"grouped, NDHWC +{dtype} +error +error +[\d.]+ +[\d.]+ *\n")
      self.assertRegex(output, rf"dilated, NCDHW +{dtype} ")
    self.assertNotIn("wrong ", output.partition("error:")[0])


def answering(answers):
  """Has child processes give these answers, one a call, instead of making them."""
  return mock.patch.object(children.Children, "call", side_effect=answers)


def wrong_where(predicate, by=1.0):
  """Puts an op in the package's place that is wrong where the predicate holds."""
  right = tf_conv3d_grad.Conv3DBackpropInputV2

  def op(**arguments):
    result = right(**arguments)
    if predicate(arguments["dilations"], result.dtype.name):
      return result + tf.cast(by, result.dtype)
    return result

  return mock.patch.object(tf_conv3d_grad, "Conv3DBackpropInputV2", op)


def rendered(table, width):
  """Returns a table as text."""
  output = io.StringIO()
  Console(width=width, file=output).print(table)
  return output.getvalue()


def widest_line(table, width):
  return max(len(line.rstrip()) for line in rendered(table, width).splitlines())


if __name__ == "__main__":
  absltest.main()

"""The arithmetic of one axis, against the definition, for every small axis there is."""

import itertools

from absl.testing import absltest

from tests.axes import all_windows, reached
from tf_conv3d_grad.problem import geometry
from tf_conv3d_grad.problem.axis import Axis


class LengthsTest(absltest.TestCase):
  def test_valid_output_counts_the_places_where_the_filter_fits(self):
    for (taps, stride, dilation), n in itertools.product(all_windows(), range(12)):
      places = [
        start for start in range(0, n, stride) if start + (taps - 1) * dilation <= n - 1
      ]
      length = geometry.valid_output(n, taps, stride, dilation)
      self.assertEqual(max(0, length), len(places), (n, taps, stride, dilation))

  def test_same_output_has_a_cell_for_every_stride_begun(self):
    for stride, n in itertools.product(range(1, 6), range(12)):
      self.assertEqual(geometry.same_output(n, stride), len(range(0, n, stride)))

  def test_same_padding_lets_the_last_window_end_at_the_end(self):
    for (taps, stride, dilation), n in itertools.product(all_windows(), range(1, 12)):
      output = geometry.same_output(n, stride)
      total = geometry.same_padding(n, output, taps, stride, dilation)
      last = (output - 1) * stride + (taps - 1) * dilation
      self.assertEqual(last, n + total - 1)

  def test_a_filter_of_one_tap_spans_one_cell_whatever_its_dilation(self):
    self.assertEqual([geometry.extent(1, d) for d in (1, 2, 7)], [1, 1, 1])


class PhasesTest(absltest.TestCase):
  def test_phases_reach_exactly_the_cells_of_the_definition(self):
    for (taps, stride, dilation), pad in itertools.product(all_windows(), range(-3, 6)):
      axis = Axis(14, 5, taps, stride, dilation, pad)
      found = {}
      for phase in geometry.phases(taps, stride, dilation, pad):
        for tap, shift in zip(phase.taps, phase.shifts):
          for o in range(axis.output):
            cell = stride * (o + shift) + phase.residue
            if 0 <= cell < axis.input:
              found[o, tap] = cell
      self.assertEqual(found, reached(axis), axis)

  def test_every_tap_belongs_to_one_phase_and_residues_are_in_order(self):
    for (taps, stride, dilation), pad in itertools.product(all_windows(), range(-3, 6)):
      phases = geometry.phases(taps, stride, dilation, pad)
      self.assertCountEqual([tap for phase in phases for tap in phase.taps], range(taps))
      residues = [phase.residue for phase in phases]
      self.assertEqual(residues, sorted(set(residues)))
      self.assertTrue(all(0 <= residue < stride for residue in residues))

  def test_the_taps_of_a_phase_lie_evenly(self):
    for (taps, stride, dilation), pad in itertools.product(all_windows(), range(-3, 6)):
      for phase in geometry.phases(taps, stride, dilation, pad):
        steps = {b - a for a, b in zip(phase.taps, phase.taps[1:])}
        self.assertLessEqual(len(steps), 1)

  def test_a_huge_stride_costs_no_more_than_its_taps(self):
    self.assertLen(geometry.phases(3, 2**31 - 1, 1, 0), 3)



if __name__ == "__main__":
  absltest.main()

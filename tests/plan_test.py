"""What plans are called where people read them, and in the autotuning file.

The fields stand in files that earlier versions have written. The texts are what `explain` prints.
"""

import json

import tensorflow as tf
from absl.testing import absltest, parameterized

from tf_conv3d_grad.lowering.im2col.plan import Plan as Im2colPlan
from tf_conv3d_grad.lowering.kernel.plan import Plan as KernelPlan
from tf_conv3d_grad.lowering.overlap_add.plan import Plan as OverlapAddPlan
from tf_conv3d_grad.lowering.xla_onednn.plan import Plan as XlaOnednnPlan
from tf_conv3d_grad.problem.layout import CHANNELS_FIRST, CHANNELS_LAST

ARE_QUICK = True

OVERLAP_ADD = {
  "gathered": [False] * 3,
  "rows_first": False,
  "columns_first": False,
  "tile": [None, None],
  "samples": None,
}
KERNEL = {
  "device": "CPU",
  "is_onednn": True,
  "dtype": "float32",
  "data_format": "NDHWC",
  "by_sample": False,
  "by_group": False,
  "by_phase": False,
}
XLA_ONEDNN = {"dtype": "float32", "depth": None, "samples": None, "slab": None}


class PlanTest(parameterized.TestCase):
  @parameterized.parameters(
    (OverlapAddPlan(), "scatter all", OVERLAP_ADD),
    (
      OverlapAddPlan((True, False, True), CHANNELS_FIRST, CHANNELS_LAST, (None, 3)),
      "gather DW, tiles of allx3, rows channels first",
      {**OVERLAP_ADD, "gathered": [True, False, True], "rows_first": True, "tile": [None, 3]},
    ),
    (
      OverlapAddPlan((False, True, False), CHANNELS_LAST, CHANNELS_FIRST, samples=4),
      "gather H, samples by 4, columns channels first",
      {**OVERLAP_ADD, "gathered": [False, True, False], "columns_first": True, "samples": 4},
    ),
    (
      OverlapAddPlan((True, True, True), CHANNELS_FIRST, CHANNELS_FIRST, (2, None), in_xla=True),
      "gather DHW, tiles of 2xall, rows and columns channels first",
      {
        **OVERLAP_ADD,
        "gathered": [True] * 3,
        "rows_first": True,
        "columns_first": True,
        "tile": [2, None],
      },
    ),
    (Im2colPlan(), "", {"depth": None, "samples": None}),
    (Im2colPlan(depth=5, in_xla=True), "tiles of 5", {"depth": 5, "samples": None}),
    (Im2colPlan(samples=2), "samples by 2", {"depth": None, "samples": 2}),
    (KernelPlan("CPU", True, tf.float32, "NDHWC"), "float32 NDHWC", KERNEL),
    (
      KernelPlan("CPU", False, tf.float64, "NCDHW", by_sample=True),
      "float64 NCDHW, sample by sample",
      {
        **KERNEL,
        "is_onednn": False,
        "dtype": "float64",
        "data_format": "NCDHW",
        "by_sample": True,
      },
    ),
    (
      KernelPlan("CPU", True, tf.bfloat16, "NDHWC", by_group=True, by_phase=True),
      "bfloat16 NDHWC, group by group, phase by phase",
      {**KERNEL, "dtype": "bfloat16", "by_group": True, "by_phase": True},
    ),
    (XlaOnednnPlan(tf.float32), "float32", XLA_ONEDNN),
    (
      XlaOnednnPlan(tf.bfloat16, depth=8, samples=1, slab=2),
      "bfloat16, tiles of 8, samples by 1, slabs of 2",
      {"dtype": "bfloat16", "depth": 8, "samples": 1, "slab": 2},
    ),
  )
  def test_text_and_fields(self, plan, text, fields):
    self.assertEqual(str(plan), text)
    self.assertEqual(json.loads(json.dumps(plan.fields())), fields)

  def test_the_same_plan_without_tiles(self):
    plan = OverlapAddPlan((True, False, False), tile=(2, 3), samples=1, in_xla=True)
    self.assertEqual(plan.untiled(), OverlapAddPlan((True, False, False), in_xla=True))


if __name__ == "__main__":
  absltest.main()

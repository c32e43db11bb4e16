"""The ways of computing, one file or folder for each, and the list of them.

Of equally good offers, the one of the lowering that comes first here is taken.
"""

from tf_conv3d_grad.lowering.flipped import Flipped
from tf_conv3d_grad.lowering.im2col import Im2col
from tf_conv3d_grad.lowering.interface import Lowering
from tf_conv3d_grad.lowering.kernel import Kernel
from tf_conv3d_grad.lowering.overlap_add import OverlapAdd
from tf_conv3d_grad.lowering.tap_loop import TapLoop
from tf_conv3d_grad.lowering.xla_onednn import XlaOnednn

REGISTERED: list[Lowering] = [
  Kernel(), XlaOnednn(), OverlapAdd(), Flipped(), Im2col(), TapLoop(),
]  # fmt: skip

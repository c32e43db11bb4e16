"""The bounded cache of what takes long to make."""

import itertools

from absl.testing import absltest

from tf_conv3d_grad.tensorflow.cache import Cache


class CacheTest(absltest.TestCase):
  def test_makes_once_and_forgets_what_was_used_longest_ago(self):
    cache, made = Cache(2), []

    def make(key):
      made.append(key)
      return lambda: key

    for key in (1, 2, 1, 3, 1, 2):
      self.assertEqual(cache.get(key, lambda key=key: make(key))(), key)
    self.assertEqual(made, [1, 2, 3, 2])
    self.assertLen(cache, 2)
    self.assertEqual([value() for value in cache.values()], [1, 2])
    cache.clear()
    self.assertEmpty(cache.values())

  def test_what_could_not_be_made_is_not_kept(self):
    cache, attempts = Cache(2), itertools.count()

    def make():
      if next(attempts) == 0:
        raise KeyboardInterrupt
      return len

    with self.assertRaises(KeyboardInterrupt):
      cache.get(1, make)
    self.assertIs(cache.get(1, make), len)


if __name__ == "__main__":
  absltest.main()

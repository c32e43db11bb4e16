"""Rewriting a SavedModel so that what TensorFlow's CPU kernels refuse in it runs there.

It works on the protocol buffer of `saved_model.pb`: a node that is refused becomes a call of a
function traced here, of TensorFlow's own operations. Everything else stays what it is.
"""

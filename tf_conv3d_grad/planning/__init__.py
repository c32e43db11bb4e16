"""Which way of computing a call is taken, and why."""

"""What each argument of an op must be, and raising what says otherwise."""

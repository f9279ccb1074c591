"""Property tests of compiled kernels: the first example may wait for the compiler."""

from hypothesis import settings

settings.register_profile("compiled", deadline=None)
settings.load_profile("compiled")

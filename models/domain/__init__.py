"""The contracts: records of the log, the ads catalogue, decisions and outcomes.

Importing this package loads neither torch, river, bytewax nor numba.
"""

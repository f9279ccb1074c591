"""Wiring: the dataflows, their settings and the command line."""

from .environment import prepare

prepare()

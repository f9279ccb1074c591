"""The commands of `impulse`, a module for each group."""

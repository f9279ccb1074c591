"""The decision core: (state, records) -> (state, outputs)."""

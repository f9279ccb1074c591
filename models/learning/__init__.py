"""Online learning: River adjustments on top of the scorer's logit, exploration, drift."""

"""``impulse demo``: the whole loop on one machine, on an embedded broker, against a simulated world."""

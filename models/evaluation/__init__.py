"""How good it is: ranking metrics, prequential and off-policy evaluation, simulator."""

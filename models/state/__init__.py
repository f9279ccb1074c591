"""What is kept per user: windows, recent sequence, caps, pending decisions."""

"""What the package computed before it was redrawn: the calls, and the values they gave."""

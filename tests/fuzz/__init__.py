"""Every damaged file of `tests.support.corpus` through every command: `make fuzz`."""

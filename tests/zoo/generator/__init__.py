"""The parts of `make_zoo.py`."""

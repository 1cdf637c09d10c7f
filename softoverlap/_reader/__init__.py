"""SimpleITK in a process of its own, so that a file that crashes it costs that file alone.

`read` is what the package calls; `__main__` is the other process, which imports NumPy and SimpleITK
and nothing else of the package, since it must start quickly.
"""

from softoverlap._reader.process import ReadImage, check_name, read, stop

__all__ = ["ReadImage", "check_name", "read", "stop"]

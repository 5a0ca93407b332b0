"""Imported by what uses MindSpore: a `ConfigError` where this environment cannot work.

Python keeps an import that succeeded and repeats one that failed, so the check costs nothing twice.
"""

from .entry_point import check_environment

check_environment()

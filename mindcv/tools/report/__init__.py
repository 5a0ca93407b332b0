"""Seeing a run: the table of its epochs, curves, what the best checkpoint gets wrong.

Only `predictions` imports mindspore, so that curves are drawn at once.
"""

from .png import plot_rates, plot_run
from .run_folder import RunFolder, read_run_folder

__all__ = ["RunFolder", "plot_rates", "plot_run", "read_run_folder"]

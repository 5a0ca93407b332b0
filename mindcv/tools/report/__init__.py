"""A run folder as one HTML page; only `predictions` imports mindspore, so curves come at once."""

"""A run folder as an HTML page; only `predictions` imports mindspore, so curves are quick."""

"""This process: its start and end, files, terminal and signals. Nothing here needs mindspore."""

"""This process: how it starts and ends, its files, terminal and signals. No mindspore here."""

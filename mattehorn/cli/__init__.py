"""The command line: main.py parses and dispatches, every other file is one group of commands."""

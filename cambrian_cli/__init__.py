"""The command line's parts: options, output, and one module a group of commands."""

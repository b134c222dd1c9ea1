"""What a command raises to end with one line and an exit code."""


class UsageError(Exception):
    """Wrong usage or configuration: exit code 2."""


class RunError(Exception):
    """Failed while running: exit code 1."""

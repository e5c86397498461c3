"""The one exception that a user is meant to read."""


class InputError(ValueError):
    """Something given to the program cannot be used.

    The message is one sentence: what must hold, what was got, what to do. The command line prints it
    and exits with code 1; the window shows it and lives on.
    """

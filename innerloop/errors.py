"""The one exception for bad input: the command lines turn it into exit code 2."""


class InputError(ValueError):
    """Input from the user cannot be used; the message names it and says what would be right."""

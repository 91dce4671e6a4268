"""The one exception for bad input: the command lines turn it into exit code 2."""

_LONGEST = 1000


class InputError(ValueError):
    """Input from the user cannot be used; the message names it and says what is expected.

    Its text is one line of printable characters and of bounded length, whatever a quoted file
    contains.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST * 2 // 3]} ... {text[-_LONGEST // 3 :]}"
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

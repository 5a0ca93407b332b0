"""Text that somebody else wrote, such as names of files and classes, shown and stored safely."""

_FORMULA = ("=", "+", "-", "@", "\t")  # a cell that begins so is computed by spreadsheets


def printable(text: str) -> str:
    """Return text that a terminal shows as it is: control characters are escaped."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode()
        for sign in text
    )


def printable_lines(text: str) -> str:
    """Return text whose lines a terminal shows as they are."""
    return "\n".join(map(printable, text.split("\n")))


def table_cell(text: str) -> str:
    """Return the text of a CSV cell that no spreadsheet takes for a formula: an apostrophe leads.

    OWASP's rule against CSV injection. A carriage return, which Python's writer leaves bare and
    readers take for the end of a row, is escaped.
    """
    text = text.replace("\r", r"\r")
    return f"'{text}" if text.startswith(_FORMULA) else text

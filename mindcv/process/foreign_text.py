"""Show and store text from others, such as file and class names, safely."""

_FORMULA = ("=", "+", "-", "@", "\t")  # spreadsheets compute cells that begin with these


def printable(text: str) -> str:
    """Return text with its control characters escaped, so that a terminal does not obey them."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode()
        for sign in text
    )


def printable_lines(text: str) -> str:
    """Return text with the control characters of each line escaped."""
    return "\n".join(map(printable, text.split("\n")))


def table_cell(text: str) -> str:
    """Return the text of a CSV cell, led by an apostrophe if a spreadsheet would compute it.

    This follows OWASP's rule against CSV injection. A carriage return is escaped: Python's writer
    does not quote it, and readers take it for the end of a row.
    """
    text = text.replace("\r", r"\r")
    return f"'{text}" if text.startswith(_FORMULA) else text

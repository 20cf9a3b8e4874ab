"""Values of the commands' flags."""

import argparse

__all__ = ["positive_number"]


def positive_number(unit, below):
    """Returns a parser of numbers above 0.

    Args:
        unit: Their unit in the plural, for the error.
        below: Exclusive upper bound.

    Returns:
        Function from text to float, for `type` of `argparse`.
    """

    def parse(text):
        value = float(text)
        if not 0.0 < value < below:
            raise argparse.ArgumentTypeError(
                f"must be a number of {unit} > 0 and < {below}. Received: "
                f"{text}."
            )
        return value

    # What argparse calls text that is no number.
    parse.__name__ = unit
    return parse

"""The errors this library raises on purpose.

A message says what was expected, what came, where, and the remedy when there is one.
Each error also derives from the builtin that a caller would expect.
"""


class ReidError(Exception):
    """Anything a user can mend: bad data, bad settings, bad files."""


class ShapeError(ReidError, ValueError):
    """An array has the wrong number of axes or sizes that do not fit together."""


class ProtocolError(ReidError, ValueError):
    """An evaluation that cannot be right as asked."""


class DatasetError(ReidError, OSError):
    """A data set or an image that is missing, broken or not what its name says."""


class ConfigError(ReidError, ValueError):
    """A setting that is unknown, out of range or contradicts another."""


class CheckpointError(ReidError, RuntimeError):
    """A weight file or checkpoint that is damaged or does not fit."""


class GalleryError(ReidError, ValueError):
    """A gallery that is damaged, locked, of another model, or asked for what it lacks."""


class GalleryBusyError(GalleryError):
    """A gallery that another writer holds."""

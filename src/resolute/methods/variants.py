"""Every row of the paper's two tables by name, and the controls, as settings without torch."""

from collections.abc import Mapping

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError
from resolute.methods.config import MethodConfig
from resolute.methods.settings import cad_net, csr_gan, ftwa, plain_sr, rain, rife, sing

# Of each module the rows of one method: its settings by name, one line per method.
VARIANTS: dict[str, MethodConfig] = {
    **ftwa.ROWS,
    **plain_sr.ROWS,
    **sing.ROWS,
    **csr_gan.ROWS,
    **rife.ROWS,
    **rain.ROWS,
    **cad_net.ROWS,
}

TITLES: dict[str, str] = {
    **ftwa.TITLES,
    **plain_sr.TITLES,
    **sing.TITLES,
    **csr_gan.TITLES,
    **rife.TITLES,
    **rain.TITLES,
    **cad_net.TITLES,
}

# The variants of FTWA and their controls [FTWA table 2].
TABLE2: tuple[str, ...] = tuple(ftwa.ROWS)

# Every method, its ablations left out, beside what people do today [FTWA table 1].
TABLE1: tuple[str, ...] = (
    "baseline",
    "baseline-twins",
    "sr-bicubic",
    "sr-net",
    "sing",
    "csr-gan",
    "rife-ffsr",
    "rain-single",
    "rain",
    "cad-net",
    "ftwa",
    "ftwa-plus",
)


def settings_class(name: str) -> type[MethodConfig]:
    """Return the class of a method's settings.

    Args:
        name: a row.

    Raises:
        ConfigError: if there is none of that name; the message gives the nearest.
    """
    if name not in VARIANTS:
        raise ConfigError(unknown_name("method", name, list(VARIANTS)))
    return type(VARIANTS[name])


def method_section(mapping: Mapping[str, object], *, usual: str) -> dict[str, type[MethodConfig]]:
    """Say which class the section ``method`` of other settings has: that of the row they name.

    Args:
        mapping: settings with ``name``.
        usual: the row that is meant where none is named.
    """
    return {"method": settings_class(str(mapping.get("name", usual)))}

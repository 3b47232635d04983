"""What papers print for the rows of the tables, to stand beside what is measured here.

Nothing of it was computed here. Other backbones, start weights, splits, training and, for
MLR-Market, other constructions of the benchmark: what tells two columns apart is more than the
method.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One row of a paper's table.

    Attributes:
        scores: Rank-1, Rank-5 and Rank-10 in percent, as printed; None where it is not.
        source: paper and table that prints them.
        remark: what makes them another thing than the column says; empty where nothing does.
    """

    scores: tuple[float | None, float | None, float | None]
    source: str
    remark: str = ""


# No source that was read says whether MLR-CUHK03 takes labelled or detected boxes.
_CUHK03, _VIPER, _CAVIAR, _MARKET = "MLR-CUHK03", "MLR-VIPeR", "CAVIAR", "MLR-Market-1501"
BENCHMARKS: dict[str, str] = {
    "mlr-cuhk03-classic-labeled": _CUHK03,
    "mlr-cuhk03-classic-detected": _CUHK03,
    "mlr-viper": _VIPER,
    "caviar": _CAVIAR,
    "mlr-market1501": _MARKET,
}

_FTWA = "FTWA, tables 1 and 2"
_CAD_NET = "CAD-Net, table 1"
_RAIN = "RAIN, poster"
_RIFE = "RIFE, as printed by PS-HRNet"
_SING = "SING, as printed by CAD-Net"
_NOT_ITS_OWN = "not in its own paper, first printed by RAIN's and CAD-Net's authors"
_VARYING = "by all signs on VR-Market1501, where the gallery is degraded too: another protocol"

# Rank-1 and Rank-5 of FTWA's table 1 are those of the sources named here, to the digit.
PUBLISHED: dict[str, dict[str, Published]] = {
    _CUHK03: {
        "baseline": Published(scores=(46.3, 77.2, None), source=_FTWA),
        "ftwa_b": Published(scores=(52.6, 78.7, None), source=_FTWA),
        "ftwa_r": Published(scores=(82.3, 97.4, None), source=_FTWA),
        "ftwa": Published(scores=(83.2, 97.8, None), source=_FTWA),
        "sing": Published(scores=(67.7, 90.7, 94.7), source=_SING),
        "csr-gan": Published(scores=(71.3, 92.1, 97.4), source=_CAD_NET, remark=_NOT_ITS_OWN),
        "ffsr": Published(scores=(70.5, 92.3, None), source=_RIFE),
        "rife": Published(scores=(69.7, 91.5, None), source=_RIFE),
        "rife-ffsr": Published(scores=(73.3, 92.6, None), source=_RIFE),
        "rain-hr": Published(scores=(60.6, 89.4, 95.0), source=_RAIN),
        "rain-single": Published(scores=(77.6, 96.2, 98.5), source=_RAIN),
        "rain": Published(scores=(78.9, 97.3, 98.7), source=_RAIN),
        "rain-no-cls": Published(scores=(70.8, None, 97.7), source=_RAIN),
        "rain-no-tri": Published(scores=(69.1, None, 96.6), source=_RAIN),
        "rain-no-rec": Published(scores=(67.3, None, 94.5), source=_RAIN),
        "rain-no-adv": Published(scores=(65.9, None, 97.4), source=_RAIN),
        "cad-net-f": Published(scores=(77.6, 96.2, 98.5), source=_CAD_NET),
        "cad-net-g": Published(scores=(79.7, 97.4, 98.7), source=_CAD_NET),
        "cad-net": Published(scores=(82.1, 97.4, 98.8), source=_CAD_NET),
    },
    _VIPER: {
        "ftwa": Published(scores=(43.2, 68.5, None), source=_FTWA),
        "sing": Published(scores=(33.5, 57.0, 66.5), source=_SING),
        "csr-gan": Published(scores=(37.2, 62.3, 71.6), source=_CAD_NET, remark=_NOT_ITS_OWN),
        "ffsr": Published(scores=(40.3, 65.3, None), source=_RIFE),
        "rife": Published(scores=(33.9, 63.6, None), source=_RIFE),
        "rife-ffsr": Published(scores=(41.6, 64.9, None), source=_RIFE),
        "rain-hr": Published(scores=(32.5, 59.2, 69.0), source=_RAIN),
        "rain-single": Published(scores=(41.2, 66.3, 75.6), source=_RAIN),
        "rain": Published(scores=(42.5, 68.3, 79.6), source=_RAIN),
        "cad-net-f": Published(scores=(41.2, 66.3, 75.6), source=_CAD_NET),
        "cad-net-g": Published(scores=(41.7, 66.4, 76.1), source=_CAD_NET),
        "cad-net": Published(scores=(43.1, 68.2, 77.5), source=_CAD_NET),
    },
    _CAVIAR: {
        "ftwa": Published(scores=(43.3, 77.1, None), source=_FTWA),
        "sing": Published(scores=(33.5, 72.7, 89.0), source=_SING),
        "csr-gan": Published(scores=(34.7, 72.5, 87.4), source=_CAD_NET, remark=_NOT_ITS_OWN),
        "ffsr": Published(scores=(31.1, 68.7, None), source=_RIFE),
        "rife": Published(scores=(35.7, 74.9, None), source=_RIFE),
        "rife-ffsr": Published(scores=(36.4, 72.0, None), source=_RIFE),
        "rain-hr": Published(scores=(27.5, 63.2, 79.3), source=_RAIN),
        "rain-single": Published(scores=(41.5, 75.3, 85.6), source=_RAIN),
        "rain": Published(scores=(42.0, 77.3, 89.6), source=_RAIN),
        "cad-net-f": Published(scores=(41.5, 75.3, 85.6), source=_CAD_NET),
        "cad-net-g": Published(scores=(38.9, 73.1, 90.6), source=_CAD_NET),
        "cad-net": Published(scores=(42.8, 76.2, 91.5), source=_CAD_NET),
    },
    _MARKET: {
        "ftwa": Published(scores=(84.4, 93.7, None), source=_FTWA),
        "sing": Published(scores=(74.4, 87.8, 91.6), source=_CAD_NET, remark=_NOT_ITS_OWN),
        "csr-gan": Published(scores=(76.4, 88.5, 91.9), source=_CAD_NET, remark=_NOT_ITS_OWN),
        "ffsr": Published(scores=(59.2, 80.1, None), source=_RIFE, remark=_VARYING),
        "rife": Published(scores=(62.6, 82.4, None), source=_RIFE, remark=_VARYING),
        "rife-ffsr": Published(scores=(66.9, 84.7, None), source=_RIFE, remark=_VARYING),
        "cad-net-f": Published(scores=(80.1, 90.6, 93.2), source=_CAD_NET),
        "cad-net-g": Published(scores=(82.2, 91.3, 94.5), source=_CAD_NET),
        "cad-net": Published(scores=(83.7, 92.7, 95.8), source=_CAD_NET),
    },
}


def published(row: str, data: str) -> Published | None:
    """Look up what is printed of a row.

    Args:
        row: a method.
        data: a benchmark, as ``data.name`` takes it.

    Returns:
        The figures; None where no paper that was read prints any.

    Examples:
        >>> published("sing", "mlr-viper").scores
        (33.5, 57.0, 66.5)
    """
    return PUBLISHED.get(BENCHMARKS.get(data, ""), {}).get(row)

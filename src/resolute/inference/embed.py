"""Embed records with any method that keeps the contract."""

from collections.abc import Sequence

import numpy as np

from resolute.core.errors import DatasetError
from resolute.core.types import Embedding, Labels, Record
from resolute.data.cache import PixelStore
from resolute.data.loader import native_batches
from resolute.methods.contract import Method

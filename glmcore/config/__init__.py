"""What a ``config.json`` describes: one record for every generation. Imports no torch."""

from glmcore.config.fields import DTYPES
from glmcore.config.generation import GENERATION_KEY, TABLES_KEY, recognise
from glmcore.config.hf import Yarn
from glmcore.config.model import ModelConfig
from glmcore.config.published import NAMED, find_config

__all__ = ["DTYPES", "GENERATION_KEY", "NAMED", "TABLES_KEY", "ModelConfig", "Yarn", "find_config", "recognise"]

"""Every error that a model directory or a computation can raise, each one line long.

It knows nothing of where they are caught.
"""


class ModelError(Exception):
    """The root: catch this to catch everything that xpod_model raises on purpose."""


class ConfigError(ModelError):
    """config.json is missing, unreadable, or asks for something that is not supported."""


class UnsupportedModel(ConfigError):
    """The model_type, or a feature the config switches on, has no implementation here."""


class CheckpointError(ModelError):
    """The weights on disk are missing, damaged, or not of the shape that the config implies."""


class TensorMissing(CheckpointError):
    """A tensor that the family needs is in none of the files."""


class TensorShape(CheckpointError):
    """A tensor is there, in another shape than the config implies."""


class FileTruncated(CheckpointError):
    """A safetensors file ends before the data that its header promises."""


class TokenizerError(ModelError):
    """tokenizer.json is missing or unreadable."""


class TextError(ModelError):
    """A text that the tokenizer gives up."""


class TemplateError(ModelError):
    """There is no chat template, or it refused the messages."""


class MissingExpert(ModelError):
    """An expert was asked for that this set does not hold."""

    def __init__(self, layer: int, expert: int) -> None:
        super().__init__(f"expert {expert} of layer {layer} is not held here")
        self.layer = layer
        self.expert = expert


class CacheFull(ModelError):
    """The KV cache has fewer free blocks than were asked for."""


class GrammarError(ModelError):
    """A grammar that makes no sense, or too much work, or does not allow what came."""


class SamplingError(ModelError):
    """Sampling parameters outside of their range."""

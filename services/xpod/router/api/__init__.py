"""The HTTP face of a router: OpenAI's API, and what operators ask.

Knows: HTTP, JSON, text. Does not know: the bus or the workers; they are behind `Engine`.
"""

from xpod.router.api.app import make_app
from xpod.router.api.engine_protocol import Engine, NotReady, Output, Overloaded, Session, SessionError
from xpod.router.api.settings import ApiSettings
from xpod.router.api.text_protocol import Text, TextStream

__all__ = [
    "ApiSettings",
    "Engine",
    "NotReady",
    "Output",
    "Overloaded",
    "Session",
    "SessionError",
    "Text",
    "TextStream",
    "make_app",
]

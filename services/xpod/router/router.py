"""The router service: HTTP in front, sessions behind, no torch anywhere."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI
from pydantic import Field

from xpod.common.service import Service
from xpod.router.admission import Admission, Limit
from xpod.router.adoption import Adoption
from xpod.router.api.app import make_app
from xpod.router.api.request_trace import Sampling
from xpod.router.api.settings import ApiSettings
from xpod.router.brokers import Brokers
from xpod.router.connections import Connections, raise_file_limit
from xpod.router.counters import Counters
from xpod.router.engine import RouterEngine
from xpod.router.http_server import HttpServer, listen, refuse_open
from xpod.router.journal import LIFETIME, Journal
from xpod.router.placing import Placing
from xpod.router.pod_metrics import PodMetrics
from xpod.router.prompt_tree import PromptTree
from xpod.router.response_shelf import KEYS, ResponseShelf
from xpod.router.surroundings import Patience, Surroundings
from xpod.router.tls import certificate_of
from xpod.router.traces import Traces
from xpod_model.checkpoint import Checkpoint
from xpod_model.config import ModelConfig, sampling_defaults
from xpod_model.text import Text
from xpod_policy.routing import Routing
from xpod_proto import (
    Ack,
    CancelSession,
    Message,
    PrefillDone,
    ReplayTokens,
    RunningSessions,
    SessionFailed,
    subjects,
)
from xpod_proto.messages import Value
from xpod_runtime.bus import Bus
from xpod_runtime.config import ServiceConfig
from xpod_runtime.credentials import credentials_of
from xpod_runtime.exposition import NOWHERE, metrics_url
from xpod_runtime.handlers import handles
from xpod_runtime.store import Bounds


class RouterConfig(ServiceConfig):
    kind = "router"

    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on, 0 for a free one")] = 8000
    metrics_port: Annotated[
        int, Field(ge=NOWHERE, le=65535, description="port of /metrics besides `port`, which has them, too")
    ] = NOWHERE
    advertise: Annotated[
        str, Field(description="the URL that clients reach it by (default: host and port)")
    ] = ""
    served_model_name: Annotated[str, Field(description="the model's name (default: its directory's)")] = ""
    api_key: Annotated[str, Field(description="keys that clients must use, with commas")] = ""
    api_keys_file: Annotated[
        str, Field(description="keys that clients must use, as `xpod key` keeps them")
    ] = ""
    insecure: Annotated[bool, Field(description="listen to other machines without any key")] = False
    tls_cert: Annotated[str, Field(description="certificate (PEM, with its chain), for HTTPS")] = ""
    tls_key: Annotated[str, Field(description="its key (PEM)")] = ""
    max_model_len: Annotated[int, Field(ge=0, description="tokens of prompt and output, 0: the model's")] = 0
    place_timeout: Annotated[
        float, Field(gt=0, description="seconds that a session waits for any worker")
    ] = 30.0
    queue_timeout: Annotated[
        float, Field(gt=0, description="seconds that it waits for room at a busy one")
    ] = 600.0
    silence_timeout: Annotated[float, Field(gt=0, description="seconds before a silent worker is asked")] = (
        2.0
    )
    journal: Annotated[
        float, Field(ge=0, description="seconds between rounds of the journal, 0: none is kept")
    ] = 1.0
    keep: Annotated[
        float, Field(ge=0, description="seconds that the answer to an Idempotency-Key is kept")
    ] = 600.0
    routing: Annotated[
        Literal["prompt-tree", "round-robin", "session", "least-load"],
        Field(description="how a prefill worker is chosen"),
    ] = "prompt-tree"
    responses_keep: Annotated[
        float, Field(ge=0, description="seconds that responses are kept, 0: none is")
    ] = 86_400.0
    responses_count: Annotated[int, Field(ge=1, description="about how many responses are kept at most")] = (
        10_000
    )
    responses_bytes: Annotated[
        int, Field(ge=1 << 20, description="bytes that the kept ones take at most")
    ] = 256 << 20
    max_sessions: Annotated[int, Field(ge=1, description="requests at once, more are refused")] = 1024
    max_connections: Annotated[
        int, Field(ge=1, description="connections at once; beyond them, the longest idle one is closed")
    ] = 8192
    max_body_bytes: Annotated[int, Field(ge=1, description="largest body of a request")] = 16 << 20


class Router(Service):
    """Owns sessions and serves HTTP."""

    kind = "router"
    config: RouterConfig

    def __init__(self, config: RouterConfig, data: Bus, control: Bus) -> None:
        super().__init__(config, data, control)
        self.prompts = PromptTree(self.view, data, self.member)
        self._server: HttpServer | None = None
        self._text: Text | None = None
        self._model = ""
        self._url = ""
        self._directory = Path(config.model).absolute()

    async def setup(self) -> None:
        config = self.config
        refuse_open(config.host, bool(config.api_key or config.api_keys_file), config.insecure)
        certificate = certificate_of(config.tls_cert, config.tls_key)
        listener = listen(config.host, config.port)
        checkpoint = Checkpoint.open(self._directory)
        self._model = checkpoint.identity
        await self._open_engine(checkpoint.config)
        await self.open_view(model=self._model)
        app = self._app()
        port = listener.getsockname()[1]
        scheme = "http" if certificate is None else "https"
        self._url = config.advertise or "{}://{}:{}".format(scheme, *listener.getsockname()[:2])
        self.metrics_url = metrics_url(config.host, port).replace("http", scheme, 1)
        connections = Connections(raise_file_limit(config.max_connections)).registered(self.registry)
        self._server = HttpServer(app, connections, None if certificate is None else certificate.context)
        if certificate is not None:
            self.permanent("certificate", certificate.watch)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def _open_engine(self, model: ModelConfig) -> None:
        """What runs sessions, and all that it hears of the pod."""
        config = self.config
        experts = await self.follow_experts(model.experts, model.moe_layers)
        patience = Patience(config.place_timeout, config.queue_timeout, config.silence_timeout)
        counters = Counters(self.registry)
        placing = Placing(self.view, self.prompts, Routing(config.routing), counters)
        admission = Admission(placing.room)
        around = Surroundings(
            self.data, self.pod, self.member, self.view, counters, patience, placing, admission, self.tracer
        )
        name = config.served_model_name or self._directory.name
        self.registry.register(PodMetrics(self.view, name))
        store = self.data.store(subjects.sessions_bucket(self.pod), lifetime=LIFETIME)
        brokers = Brokers(lambda: config.nats_urls, store.leader, credentials_of(config).tls())
        self.permanent("brokers", brokers.watch)
        journal = Journal(store, config.journal)
        self.engine = engine = RouterEngine(
            around,
            model,
            experts,
            brokers,
            journal=journal,
            name=name,
            max_model_len=config.max_model_len or model.max_positions,
            limit=Limit(config.max_sessions),
            keep=config.keep,
        )
        self.permanent("silences", engine.watch_silences)
        self.permanent("journal", lambda: journal.watch(engine.remembered))
        await self.listen(subjects.running(self.pod), handler=self._on_running)
        await self.listen(subjects.kv(self.pod), handler=self.prompts.on_event)
        for reconnected in (self.prompts.reconnected, engine.reconnected):
            self.data.on_reconnect(reconnected)
        for changed in (self.prompts.on_member, engine.member_changed):
            self.view.listen(changed)
        for beats in (engine.heartbeat, self.prompts.heartbeat):
            self.view.on_heartbeat(beats)
        self.view.on_heartbeat(lambda member: admission.look())  # a worker more, or less

    def _app(self) -> FastAPI:
        """The engine's HTTP face."""
        config, directory = self.config, self._directory
        settings = ApiSettings(
            version=version("xpod"),
            api_key=config.api_key or None,
            api_keys_file=Path(config.api_keys_file) if config.api_keys_file else None,
            sampling_defaults=sampling_defaults(directory),
            max_body_bytes=config.max_body_bytes,
        )
        self._text = Text.load(directory, apart=True)
        shelf = self._shelf()
        app = make_app(
            self.engine,
            self._text,
            settings,
            self.registry,
            shelf=shelf,
            sampling=Sampling(self.tracer, config.trace),
            traces=Traces(self.data, self.view, self.member, self.tracer),
        )
        if shelf is not None:
            adoption = Adoption(shelf, app.state.desk, self.view, lambda: self.engine.ready()[0])
            self.view.listen(adoption.on_member)
            self.permanent("adoption", adoption.watch)
        return app

    def _shelf(self) -> ResponseShelf | None:
        config = self.config
        if not config.responses_keep:
            return None
        name = subjects.responses_bucket(self.pod)
        bounds = Bounds(config.responses_count * KEYS, config.responses_bytes)
        store = self.data.store(name, lifetime=config.responses_keep, bounds=bounds)
        return ResponseShelf(store, self.member, config.responses_keep)

    def detail(self) -> dict[str, Value]:
        return {"model": self._model, "url": self._url}

    def load(self) -> dict[str, Value]:
        return {"sessions": self.engine.live if hasattr(self, "engine") else 0}

    async def drain(self) -> None:
        """Refuse new connections, let the streams finish."""
        if self._server is not None:
            self._server.should_exit = True
            await self._serving

    async def teardown(self) -> None:
        self.prompts.stop()
        if self._server is not None and not self._serving.done():
            self._server.should_exit = self._server.force_exit = True
            await self._serving
        if self._text is not None:
            self._text.close()

    @handles(PrefillDone)
    async def on_prefill_done(self, message: PrefillDone) -> None:
        self.engine.prefill_done(message)

    @handles(ReplayTokens)
    async def on_replay(self, message: ReplayTokens) -> Message:
        return self.engine.history(message)

    @handles(CancelSession)
    async def on_cancel(self, message: CancelSession) -> Message:
        await self.engine.cancelled(message.session)
        return Ack()

    async def _on_running(self, message: Message) -> None:
        if isinstance(message, RunningSessions):
            await self.engine.running(message)

    @handles(SessionFailed)
    async def on_session_failed(self, message: SessionFailed) -> None:
        self.engine.session_failed(message)

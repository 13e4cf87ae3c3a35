"""`xpod up`: a pod of local processes.

Knows: its options, and what a user gets with and without --detach.
Does not know: how processes are kept alive (see `launcher`), or how they are shown (see `terminal`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Option

from xpod.cli.down import stop_pod
from xpod.cli.errors import BAD_USAGE, INTERRUPTED, CliError
from xpod.cli.handle import Handle
from xpod.cli.http_face import CertificateOption, HttpFace, InsecureOption, KeyOption, KeysFileOption
from xpod.cli.options import (
    DEFAULT_DATA,
    DEFAULT_MODEL,
    CachingOption,
    DataOption,
    DeviceOption,
    DtypeOption,
    MempoolBytesOption,
    MempoolDiskBytesOption,
    ModelOption,
    RoutingOption,
    count_option,
)
from xpod.cli.reuse import DEFAULT_CACHING, DEFAULT_MEMPOOL, DEFAULT_MEMPOOL_DISK, DEFAULT_ROUTING, Reuse
from xpod.cli.sizes import size
from xpod.cli.starting import READY_SECONDS, PodRequest, check_part, started
from xpod.cli.state import read_state
from xpod.cli.terminal import interruptible, wait_ready, watch


def up(  # noqa: PLR0917
    model: ModelOption = DEFAULT_MODEL,
    dtype: DtypeOption = "auto",
    nats: Annotated[
        int | None,
        Option(
            "--nats",
            envvar="XPOD_NATS",
            min=1,
            metavar="N",
            show_default=False,
            help="NATS nodes to run (default: 1; the quorum of three in compose.yaml is for machines that fail).",
        ),
    ] = None,
    nats_url: Annotated[
        str,
        Option(
            "--nats-url",
            envvar="XPOD_NATS_URL",
            metavar="URL,…",
            help="A NATS cluster that is there already.",
        ),
    ] = "",
    routers: Annotated[int | None, count_option("--routers", "Routers")] = None,
    prefill: Annotated[int | None, count_option("--prefill", "Prefill workers")] = None,
    decode: Annotated[int | None, count_option("--decode", "Decode workers")] = None,
    experts: Annotated[int | None, count_option("--experts", "Expert shards")] = None,
    mempool: Annotated[int | None, count_option("--mempool", "MemPool nodes")] = None,
    supervisors: Annotated[int | None, count_option("--supervisors", "Supervisors")] = None,
    routing: RoutingOption = DEFAULT_ROUTING,
    caching: CachingOption = DEFAULT_CACHING,
    mempool_bytes: MempoolBytesOption = DEFAULT_MEMPOOL,
    mempool_disk_bytes: MempoolDiskBytesOption = DEFAULT_MEMPOOL_DISK,
    host: Annotated[
        str, Option("--host", envvar="XPOD_HOST", help="Address that the routers listen on.")
    ] = "127.0.0.1",
    public_host: Annotated[
        str,
        Option(
            "--public-host",
            envvar="XPOD_PUBLIC_HOST",
            metavar="HOST",
            help="What clients on other machines call this one, where routers listen on all addresses.",
        ),
    ] = "",
    machine: Annotated[
        str,
        Option(
            "--machine",
            envvar="XPOD_MACHINE",
            metavar="NAME",
            help="Run only the members named here, as this machine's part of the pod at --nats-url.",
        ),
    ] = "",
    port: Annotated[
        int,
        Option(
            "--port",
            envvar="XPOD_PORT",
            metavar="PORT",
            min=0,
            max=65535,
            help="Router i listens on PORT + i; 0: free ports.",
        ),
    ] = 8000,
    data: DataOption = DEFAULT_DATA,
    device: DeviceOption = "cpu",
    pod: Annotated[
        str,
        Option("--pod", envvar="XPOD_POD", help="Name on the bus (default: one of its own for each --data)."),
    ] = "",
    timeout: Annotated[
        float,
        Option(
            "--timeout",
            envvar="XPOD_TIMEOUT",
            min=1,
            metavar="SECONDS",
            help="Seconds that it may take to become ready.",
        ),
    ] = READY_SECONDS,
    served_model_name: Annotated[
        str,
        Option(
            "--served-model-name",
            envvar="XPOD_SERVED_MODEL_NAME",
            metavar="NAME",
            help="What clients call the model (default: demo, or its directory's name).",
        ),
    ] = "",
    no_frames: Annotated[
        bool,
        Option(
            "--no-frames",
            envvar="XPOD_NO_FRAMES",
            help="Send everything over NATS: by default members pass large messages in memory that they share.",
        ),
    ] = False,
    secure: Annotated[
        bool,
        Option(
            "--secure",
            envvar="XPOD_SECURE",
            help="Its NATS nodes speak TLS and let in its members alone, each kind to what it needs.",
        ),
    ] = False,
    credentials: Annotated[
        Path | None,
        Option(
            "--credentials",
            envvar="XPOD_CREDENTIALS",
            metavar="DIR",
            help="What xpod credentials made for the cluster of --nats-url.",
        ),
    ] = None,
    api_keys_file: KeysFileOption = None,
    insecure: InsecureOption = False,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
    detach: Annotated[
        bool, Option("--detach", "-d", envvar="XPOD_DETACH", help="Return once the pod is ready; it goes on.")
    ] = False,
) -> int:
    """Start a pod of local processes.

    Its members are the services that compose.yaml names; one that dies is started again.

    Without --detach, xpod up shows them until Ctrl-C, then drains.
    """
    if nats is not None and nats_url:
        raise CliError("--nats and --nats-url exclude each other", BAD_USAGE)
    if secure and nats_url:
        raise CliError("--secure is for NATS nodes that xpod runs; with --nats-url: --credentials", BAD_USAGE)
    if credentials is not None and not nats_url:
        raise CliError(
            "--credentials goes with --nats-url; for NATS nodes that xpod runs: --secure", BAD_USAGE
        )
    if machine:
        check_part(machine, nats_url, named=bool(pod or credentials))
    reuse = Reuse(
        routing,
        caching,
        size("--mempool-bytes", mempool_bytes),
        size("--mempool-disk-bytes", mempool_disk_bytes),
    )
    counts = {
        "router": routers,
        "prefill": prefill,
        "decode": decode,
        "expert": experts,
        "mempool": mempool,
        "supervisor": supervisors,
    }
    request = PodRequest(
        data=data,
        model=model,
        dtype=dtype,
        device=device,
        served_model_name=served_model_name,
        host=host,
        public_host=public_host,
        machine=machine,
        port=port,
        pod=pod,
        counts=counts,
        nats=nats,
        nats_url=nats_url,
        frames=not no_frames,
        secure=secure,
        credentials=credentials,
        face=HttpFace(api_keys_file, insecure, tls_cert, tls_key),
        variables=reuse.variables(),
        ready_seconds=timeout,
    )
    return _detached(request) if detach else _attached(request)


def _detached(request: PodRequest) -> int:
    with interruptible(), started(request, attached=False) as handle:
        wait_ready(handle)
        print(_ready_line(request.data), flush=True)
        handle.release()
    return 0


def _attached(request: PodRequest) -> int:
    with interruptible(), started(request, attached=True) as handle:
        try:
            wait_ready(handle)
            print(_ready_line(request.data), "Ctrl-C stops it.", flush=True)
            last = watch(handle, request.data.expanduser().resolve())
        except KeyboardInterrupt:
            _stop(handle, request.data.expanduser().resolve())
            return INTERRUPTED
    if last != "stopped":
        raise CliError("the launcher died; the members go on, and xpod down stops them")
    return 0


def _stop(handle: Handle, data: Path) -> None:
    """Drains; another Ctrl-C kills."""
    print("stopping", file=sys.stderr, flush=True)
    try:
        handle.stop()
    except KeyboardInterrupt:
        handle.kill()
        stop_pod(data, 0.0)


def _ready_line(data: Path) -> str:
    state = read_state(data.expanduser().resolve())
    if state is None:
        return ""
    if not state.endpoints:
        return f"{len(state.members)} members of {state.pod} run here."
    return f"{state.pod} serves at {', '.join(state.endpoints)}."

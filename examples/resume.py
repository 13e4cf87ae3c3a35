"""A stream that outlives its router: `python resume.py 'def main():' http://127.0.0.1:8000 http://127.0.0.1:8001`."""

import itertools
import json
import sys
import time
import uuid

import httpx

prompt, *routers = sys.argv[1:]
body = {"prompt": prompt, "max_tokens": 200, "temperature": 0, "stream": True}
# A comment in every silence tells a long pause from a dead router; a key lets the request be sent again.
headers = {"X-Keep-Alive": "0.2", "Idempotency-Key": str(uuid.uuid4())}
for router in itertools.cycle(routers):
    id_, chunk = "", ""
    try:
        with httpx.stream(
            "POST", f"{router}/v1/completions", json=body, headers=headers, timeout=1.0
        ) as stream:
            for line in stream.raise_for_status().iter_lines():
                name, _, value = line.partition(": ")
                id_, chunk = (value if name == "id" else id_), (value if name == "data" else chunk)
                if chunk == "[DONE]":
                    sys.exit()
                if not line and chunk:  # the event is whole: from now on, go on behind it
                    print("".join(c["text"] for c in json.loads(chunk)["choices"]), end="", flush=True)
                    headers["Last-Event-ID"], chunk = id_, ""
    except httpx.HTTPError as error:
        print(f"[{router}: {type(error).__name__}]", file=sys.stderr)
        time.sleep(0.1)

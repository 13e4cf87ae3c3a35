"""As much of curl as the pages use, for machines that have none."""

from __future__ import annotations

import argparse
import sys

import httpx


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="data")
    given = parser.parse_args()
    headers = dict(header.split(": ", 1) for header in given.headers)
    answer = httpx.request("POST" if given.data else "GET", given.url, headers=headers, content=given.data)
    sys.stdout.write(answer.text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

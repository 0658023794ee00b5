"""A service with aiohttp: the three exchanges of caller.py.

    caller_aiohttp.py TARGET_URL

The proxy stands in HTTP_PROXY and HTTPS_PROXY, the authority in SSL_CERT_FILE.
"""

import asyncio
import json
import sys

import aiohttp


async def stream():
    for _ in range(300):
        yield b"x" * 1000


async def main(url):
    # Without trust_env aiohttp knows no proxy.
    async with aiohttp.ClientSession(trust_env=True, timeout=aiohttp.ClientTimeout(total=30)) as session:
        for send in (
            lambda: session.get(url),
            lambda: session.post(url, json={"note": "n" * 2000}),
            lambda: session.post(url, data=stream()),
        ):
            async with send() as response:
                print(json.dumps({"status": response.status, "body": await response.text()}), flush=True)


asyncio.run(main(sys.argv[1]))

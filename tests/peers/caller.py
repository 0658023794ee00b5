"""A legacy service with python-requests: three exchanges on one session.

    caller.py PROXY_URL TARGET_URL
    caller.py --gateway GATEWAY_URL HOST_HEADER PATH

Credentials stand in the first URL, as http://user:password@host:port. Prints {"status", "body"}
in one line per response; CALLER_CA is a file of authorities to trust instead of the usual ones: of a GET, of a JSON POST, of a chunked POST of 300 000 bytes of "x".
"""

import json
import os
import sys

import requests

session = requests.Session()
# Neither NO_PROXY nor ~/.netrc may decide where these requests go and as whom.
session.trust_env = False

if sys.argv[1] == "--gateway":
    gateway, host, path = sys.argv[2:]
    url = gateway.rstrip("/") + path  # requests turns the URL's credentials into Authorization: Basic
    session.headers["Host"] = host
else:
    proxy, url = sys.argv[1:]
    session.proxies = {"http": proxy, "https": proxy}
    session.verify = os.environ.get("CALLER_CA", True)


def stream():
    for _ in range(300):
        yield b"x" * 1000


for send in (
    lambda: session.get(url, timeout=30),
    lambda: session.post(url, json={"note": "n" * 2000}, timeout=30),
    # A generator has no length, which is what makes requests send chunks.
    lambda: session.post(url, data=stream(), headers={"Content-Type": "application/octet-stream"}, timeout=30),
):
    response = send()
    print(json.dumps({"status": response.status_code, "body": response.text}), flush=True)

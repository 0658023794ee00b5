"""Whether http.client takes answers: the paths /0, /1, … at a gateway.

    answers.py GATEWAY_HOST GATEWAY_PORT COUNT

Prints {"status", "body"} or {"error"} in one line per answer.
"""

import http.client
import json
import sys

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(count):
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request("POST", f"/{number}", body=b"x", headers={"Host": "api.test"})
        response = connection.getresponse()
        line = {"status": response.status, "body": response.read().decode("latin-1")}
        # Defects of the head are noted, not raised.
        if response.headers.defects:
            line = {"error": repr(response.headers.defects)}
    except (http.client.HTTPException, OSError, ValueError) as error:
        line = {"error": repr(error)}
    print(json.dumps(line), flush=True)
    connection.close()

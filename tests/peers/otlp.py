"""A real receiver of OTLP, rotel, and behind it a decoder that has OpenTelemetry's own messages.

Prints where both are, as JSON, once they listen; `/control/spans` at the decoder's port shows what came. Ends with its
standard input.
"""

import ctypes
import gzip
import http.server
import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

PATIENCE = 30
spans = []


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def decoded(span, resource):
    return {
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "name": span.name,
        "kind": Span.SpanKind.Name(span.kind),
        "links": [[link.trace_id.hex(), link.span_id.hex()] for link in span.links],
        "took": span.end_time_unix_nano - span.start_time_unix_nano,
        "age": time.time() - span.start_time_unix_nano / 1e9,
        "is_error": span.status.code == Status.STATUS_CODE_ERROR,
        "attributes": attributes(span.attributes),
        "resource": resource,
    }


class Decoder(http.server.BaseHTTPRequestHandler):
    def answer(self, media_type, body):
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        request = ExportTraceServiceRequest()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # rotel compresses, whatever it is told.
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        request.ParseFromString(body)
        for of_resource in request.resource_spans:
            resource = attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                spans.extend(decoded(span, resource) for span in of_scope.spans)
        self.answer("application/x-protobuf", ExportTraceServiceResponse().SerializeToString())

    def do_GET(self):
        self.answer("application/json", json.dumps(spans).encode())

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def listens(port):
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def end_with_parent():
    """Whoever is killed has no time to end others (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start(decoder, directory):
    """Starts rotel; somebody may take its ports first."""
    agent = pathlib.Path(importlib.util.find_spec("rotel").submodule_search_locations[0], "rotel-agent")
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ports = free_port(), free_port()
        line = [
            agent, "start", "--pid-file", directory / "pid", "--log-file", directory / "log",
            "--otlp-http-endpoint", f"127.0.0.1:{ports[0]}", "--otlp-grpc-endpoint", f"127.0.0.1:{ports[1]}",
            "--exporter", "otlp", "--otlp-exporter-protocol", "http",
            "--otlp-exporter-endpoint", f"http://127.0.0.1:{decoder}",
        ]
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("ROTEL_", "OTEL_"))}
        silent = subprocess.DEVNULL
        rotel = subprocess.Popen(line, env=plain, stdin=silent, stdout=silent, stderr=silent, preexec_fn=end_with_parent)
        while rotel.poll() is None and time.monotonic() < until:
            if listens(ports[0]):
                return rotel, ports[0]
            time.sleep(0.02)
        rotel.kill()
    sys.exit("rotel does not start")


def main():
    decoder = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Decoder)
    threading.Thread(target=decoder.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as directory:
        rotel, port = start(decoder.server_port, pathlib.Path(directory))
        try:
            print(json.dumps({"port": decoder.server_port, "receiver": port}), flush=True)
            sys.stdin.read()
        finally:
            rotel.kill()
            rotel.wait()


main()

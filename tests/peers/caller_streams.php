<?php
// A service with PHP's streams, file_get_contents: the three exchanges of caller.py, a connection each.
//
//     php -d openssl.cafile=FILE caller_streams.php PROXY_URL TARGET_URL
//
// Streams read no environment, and cannot send chunks.

[, $proxy, $url] = $argv;
$parts = parse_url($proxy);
$password = 'Proxy-Authorization: Basic ' . base64_encode("{$parts['user']}:{$parts['pass']}");
foreach ([
    ['method' => 'GET', 'header' => [$password]],
    ['method' => 'POST', 'header' => [$password, 'Content-Type: application/json'], 'content' => json_encode(['note' => str_repeat('n', 2000)])],
    ['method' => 'POST', 'header' => [$password, 'Content-Type: application/octet-stream'], 'content' => str_repeat('x', 300_000)],
] as $request) {
    $http = $request + [
        'proxy' => "tcp://{$parts['host']}:{$parts['port']}",
        // Without that the request line has no host where the URL is http://.
        'request_fulluri' => str_starts_with($url, 'http:'),
        'ignore_errors' => true,
        'timeout' => 30,
    ];
    $body = file_get_contents($url, false, stream_context_create(['http' => $http]));
    if ($body === false) {
        exit(1);
    }
    // The answer to CONNECT is not among them.
    echo json_encode(['status' => (int) explode(' ', $http_response_header[0])[1], 'body' => $body]), "\n";
}

<?php
// A service with PHP's curl: the three exchanges of caller.py.
//
//     php -d curl.cainfo=FILE caller_curl.php TARGET_URL
//
// The proxy stands in http_proxy and https_proxy, which libcurl reads.

$upload = fopen('php://memory', 'r+');
fwrite($upload, str_repeat('x', 300_000));
rewind($upload);
$handle = curl_init();
foreach ([
    [],
    [CURLOPT_POSTFIELDS => json_encode(['note' => str_repeat('n', 2000)]), CURLOPT_HTTPHEADER => ['Content-Type: application/json']],
    // A file of unknown length is sent in chunks.
    [CURLOPT_POST => true, CURLOPT_READFUNCTION => fn($_, $__, $length) => fread($upload, $length), CURLOPT_HTTPHEADER => ['Transfer-Encoding: chunked']],
] as $options) {
    // Keeps the connection.
    curl_reset($handle);
    curl_setopt_array($handle, $options + [CURLOPT_URL => $argv[1], CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => 30]);
    $body = curl_exec($handle);
    if ($body === false) {
        fwrite(STDERR, curl_error($handle) . "\n");
        exit(1);
    }
    echo json_encode([
        'status' => curl_getinfo($handle, CURLINFO_RESPONSE_CODE),
        'body' => $body,
        'version' => curl_getinfo($handle, CURLINFO_HTTP_VERSION) === CURL_HTTP_VERSION_2_0 ? 'HTTP/2.0' : 'HTTP/1.1',
    ]), "\n";
}

// A legacy service with axios: three exchanges on one connection pool.
//
//     caller.mjs PROXY_URL TARGET_URL
//     caller.mjs --gateway GATEWAY_URL HOST_HEADER PATH
//
// Credentials stand in the first URL, as http://user:password@host:port. Prints {"status", "body"}
// in one line per response: of a GET, of a JSON POST, of a chunked POST of 300 000 bytes of "x".

import { Readable } from 'node:stream';
import axios from 'axios';

// NO_PROXY often names loopback, and the lower-case names win over the upper-case ones.
for (const name of ['http_proxy', 'https_proxy', 'all_proxy', 'no_proxy']) {
  delete process.env[name];
  delete process.env[name.toUpperCase()];
}

const settings = {
  timeout: 30_000,
  validateStatus: () => true,
  transformResponse: (text) => text,
  // Following redirects means keeping the whole body; without that axios streams it.
  maxRedirects: 0,
};
let url;
if (process.argv[2] === '--gateway') {
  const [gateway, host, path] = process.argv.slice(3);
  url = gateway.replace(/\/$/, '') + path; // axios turns the URL's credentials into Authorization: Basic
  settings.headers = { Host: host };
} else {
  // As an operator would set it. axios takes the credentials as they stand, percent signs and all.
  [process.env.HTTP_PROXY, url] = process.argv.slice(2);
  process.env.HTTPS_PROXY = process.env.HTTP_PROXY;
}
const service = axios.create(settings);

function* stream() {
  for (let i = 0; i < 300; i++) yield Buffer.alloc(1000, 'x');
}

for (const send of [
  () => service.get(url),
  () => service.post(url, { note: 'n'.repeat(2000) }),
  () => service.post(url, Readable.from(stream()), { headers: { 'Content-Type': 'application/octet-stream' } }),
]) {
  const { status, data } = await send();
  console.log(JSON.stringify({ status, body: data }));
}

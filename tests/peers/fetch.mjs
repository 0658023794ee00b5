// A legacy service with undici's fetch, which is Node's own: the exchanges of caller.mjs. With this agent, as with
// NODE_USE_ENV_PROXY=1 from Node 24 on, it sends CONNECT for http:// URLs, too.
//
//     fetch.mjs PROXY_URL TARGET_URL

import { EnvHttpProxyAgent, fetch, setGlobalDispatcher } from 'undici';

const [proxy, url] = process.argv.slice(2);
setGlobalDispatcher(new EnvHttpProxyAgent({ httpProxy: proxy, httpsProxy: proxy, noProxy: '' }));
const upload = () => new ReadableStream({
  start(controller) {
    for (let i = 0; i < 300; i++) controller.enqueue(new Uint8Array(1000).fill(120));
    controller.close();
  },
});
for (const request of [
  {},
  { method: 'POST', body: JSON.stringify({ note: 'n'.repeat(2000) }), headers: { 'Content-Type': 'application/json' } },
  { method: 'POST', body: upload(), duplex: 'half', headers: { 'Content-Type': 'application/octet-stream' } },
]) {
  const response = await fetch(url, request);
  console.log(JSON.stringify({ status: response.status, body: await response.text() }));
}

// A service with fetch: the exchanges of caller.mjs.
//
//     NODE_USE_ENV_PROXY=1 HTTP_PROXY=… HTTPS_PROXY=… node fetch.mjs TARGET_URL     Node's own, from Node 24 on
//     node fetch.mjs TARGET_URL PROXY_URL                                           the package undici's
//
// Both send CONNECT for http:// URLs, too.

const [url, proxy] = process.argv.slice(2);
let { fetch } = globalThis;
if (proxy) {
  const undici = await import('undici');
  undici.setGlobalDispatcher(new undici.EnvHttpProxyAgent({ httpProxy: proxy, httpsProxy: proxy, noProxy: '' }));
  fetch = undici.fetch;
}
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

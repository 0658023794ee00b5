// A legacy service with Node's own fetch, behind a proxy by NODE_USE_ENV_PROXY=1 and HTTP(S)_PROXY:
// the exchanges of caller.mjs.
//
//     fetch.mjs TARGET_URL

const url = process.argv[2];
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

// Whether node:http takes answers: the paths /0, /1, … at a gateway.
//
//     answers.mjs GATEWAY_HOST GATEWAY_PORT COUNT
//
// Prints {"status", "body"} or {"error"} in one line per answer.

import http from 'node:http';

const [host, port, count] = process.argv.slice(2);

const ask = (number) =>
  new Promise((resolve) => {
    const settings = { host, port, path: `/${number}`, method: 'POST', headers: { Host: 'api.test' }, agent: false };
    const request = http.request(settings, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', (error) => resolve({ error: String(error) }));
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(parts).toString('latin1') }));
    });
    request.on('error', (error) => resolve({ error: String(error) }));
    request.end('x');
  });

for (let number = 0; number < count; number++) console.log(JSON.stringify(await ask(number)));

// A real authorization server, npm oidc-provider, with an API that its tokens open.
//
// Real: client authentication, the client_credentials and refresh_token grants, the token
// models and their in-memory adapter, refresh token rotation, and the reuse detection that
// destroys a whole grant when a rotated refresh token comes back.
//
// Bent: oidc-provider never hands out a refresh token for client_credentials. For the client
// `ladder` a middleware adds one to the finished answer: a RefreshToken of the real model, in a
// real Grant whose account is the client itself. So the access token in that first answer stays
// outside the grant and outlives it; those that come from refreshing die with it.
//
// Ours: /api/…, GET /control/stats, and POST /control/revoke, which destroys every token, or with
// ?only=access spares the refresh tokens.
//
// Prints one line of JSON when ready, ends when its standard input does.
// ACCESS_TOKEN_TTL and REFRESH_TOKEN_TTL are seconds (300 and 3600).

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

// The provider announces its development defaults with console.info, which is standard output.
console.info = console.error;
const { Provider } = await import('oidc-provider');

const scope = 'links.read links.write';
// Each secret holds what form encoding changes, so Basic works only as RFC 6749 2.3.1 has it.
const client = (client_id, client_secret, token_endpoint_auth_method, ...more_grants) => ({
  client_id, client_secret, token_endpoint_auth_method, scope,
  grant_types: ['client_credentials', ...more_grants], response_types: [], redirect_uris: [],
});
const clients = {
  basic: client('ledger', 'b:a/s+i%c& =secret', 'client_secret_basic'),
  post: client('checkout', 'p:o/s+t%&= secret', 'client_secret_post'),
  ladder: client('payouts', 'l:a/d+d%e&r= secret', 'client_secret_post', 'refresh_token'),
};

const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address();
const origin = `http://127.0.0.1:${port}`;

const seconds = (name, otherwise) => Number(process.env[name] ?? otherwise);
const lifetime = seconds('ACCESS_TOKEN_TTL', 300);
const provider = new Provider(origin, {
  clients: Object.values(clients),
  // offline_access, which no client here may ask for, is what switches the refresh_token grant on.
  scopes: [...scope.split(' '), 'offline_access'],
  features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
  findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
  rotateRefreshToken: true,
  ttl: {
    AccessToken: lifetime,
    ClientCredentials: lifetime,
    RefreshToken: seconds('REFRESH_TOKEN_TTL', 3600),
    Grant: 86400,
  },
});

const stats = { token: {}, api: {} };
const count = (table, key, status) => {
  table[key] ??= {};
  table[key][status] = (table[key][status] ?? 0) + 1;
};

provider.use(async (ctx, next) => {
  await next();
  if (ctx.path !== '/token') return;
  const grant_type = ctx.oidc?.params?.grant_type ?? 'none';
  const { client: caller } = ctx.oidc ?? {};
  if (ctx.status === 200 && grant_type === 'client_credentials' && caller.grantTypeAllowed('refresh_token')) {
    const grant = new provider.Grant({ clientId: caller.clientId, accountId: caller.clientId });
    grant.addOIDCScope(ctx.body.scope ?? '');
    const refreshToken = new provider.RefreshToken({
      client: caller, accountId: caller.clientId, grantId: await grant.save(), gty: grant_type, scope: ctx.body.scope,
    });
    ctx.body = { ...ctx.body, refresh_token: await refreshToken.save() };
  }
  count(stats.token, grant_type, ctx.status);
});

// Tokens are remembered as they are stored, for /control/revoke to destroy them where they lie.
const issued = { access: [], refresh: [] };
provider.on('access_token.saved', (token) => issued.access.push(token));
provider.on('client_credentials.saved', (token) => issued.access.push(token));
provider.on('refresh_token.saved', (token) => issued.refresh.push(token));

const answer = (response, status, body, headers = {}) =>
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));

// Says what arrived, so that a test can compare bodies, but never repeats the token.
async function api(request, response) {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of request) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  const [, value] = /^Bearer ([^ ]+)$/.exec(request.headers.authorization ?? '') ?? [];
  const token = await provider.ClientCredentials.find(value) ?? await provider.AccessToken.find(value);
  count(stats.api, request.method, token ? 200 : 401);
  if (!token) return answer(response, 401, { error: 'invalid_token' }, { 'www-authenticate': 'Bearer error="invalid_token"' });
  answer(response, 200, {
    scope: token.scope, client: token.clientId, method: request.method, path: request.url, bytes, sha256: hash.digest('hex'),
  });
}

async function revoke(kinds, response) {
  const tokens = kinds.flatMap((kind) => issued[kind].splice(0));
  await Promise.all(tokens.map((token) => token.destroy()));
  answer(response, 200, { revoked: tokens.length });
}

const authorizationServer = provider.callback();
server.on('request', (request, response) => {
  const [path, query] = request.url.split('?');
  // A caller that breaks off in the middle of its body must not take the server with it.
  if (path.startsWith('/api/')) return api(request, response).catch(() => response.destroy());
  if (path === '/control/stats') return answer(response, 200, stats);
  if (path === '/control/revoke' && request.method === 'POST') {
    return revoke(query === 'only=access' ? ['access'] : ['access', 'refresh'], response);
  }
  authorizationServer(request, response);
});

// No test may leave a server behind, however it ends.
process.stdin.resume().on('end', () => process.exit());
console.log(JSON.stringify({
  port, token_url: `${origin}/token`, api_url: `${origin}/api/links`, control_url: `${origin}/control`, clients,
}));

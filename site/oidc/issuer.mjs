// An OpenID provider (panva/oidc-provider) with Keycloak's URLs, for clients that hold a secret. Usage: node issuer.mjs FOLDER
// FOLDER holds issuer.json (port, lifetime in seconds, clients) and keys/*.pem: the last name signs, the others stay published.
import { createPrivateKey } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const [folder] = process.argv.slice(2);
const { port, lifetime, clients } = JSON.parse(readFileSync(`${folder}/issuer.json`));
const realm = '/realms/kcrealm';
const connect = '/protocol/openid-connect';
const scope = 'openid profile email firecrest';

const jwk = (name) => ({
  ...createPrivateKey(readFileSync(`${folder}/keys/${name}`)).export({ format: 'jwk' }),
  use: 'sig', alg: 'RS256', kid: name.replace(/\.pem$/, ''),
});
const keys = readdirSync(`${folder}/keys`).sort().reverse().map(jwk);
const roles = (names) => ({ roles: names });
// Keycloak's claims: of a person's client, and of a service account whose user is the client's first role
const claims = new Map(clients.map(({ id, user, service }) => [id, service
  ? { preferred_username: `service-account-${id}`, clientId: id, realm_access: roles(['offline_access', 'firecrest-sa']), resource_access: { [id]: roles([user]) } }
  : { preferred_username: user, realm_access: roles(['offline_access']) }]));

// the one API that tokens are for; both ways of sending the secret are accepted from every client
const api = (ctx) => {
  ctx.oidc.params.scope ??= scope;   // pyfirecrest asks for no scope, and Keycloak grants the client's default ones then
  return { scope, audience: 'account', accessTokenTTL: lifetime, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256', kid: keys[0].kid } } };
};

const provider = new Provider(`http://127.0.0.1:${port}${realm}`, {
  clients: clients.map((client) => ({
    client_id: client.id, client_secret: client.secret, scope, grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
  })),
  jwks: { keys },
  scopes: scope.split(' '),
  ttl: { ClientCredentials: lifetime },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: { enabled: true, defaultResource: () => 'urn:firecrest', getResourceServerInfo: api },
  },
  extraTokenClaims: (ctx, token) => ({
    azp: token.clientId, typ: 'Bearer', ...claims.get(token.clientId),
  }),
  routes: { token: `${connect}/token`, jwks: `${connect}/certs`, authorization: `${connect}/auth`, userinfo: `${connect}/userinfo` },
});

const answer = provider.callback();
createServer((request, response) => {
  if (!request.url.startsWith(`${realm}/`)) return response.writeHead(404).end();
  request.originalUrl = request.url;
  request.url = request.url.slice(realm.length);
  return answer(request, response);
}).listen(port, '127.0.0.1');

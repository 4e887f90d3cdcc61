// A gRPC client on Node's own xDS client: it makes as many calls as each line of its input says, and prints what they
// said, counted, as the client in Go does.
'use strict';
const readline = require('node:readline');
const grpc = require('@grpc/grpc-js');
require('@grpc/grpc-js-xds').register();

const client = new grpc.Client(process.env.MALLA_TEST_GRPC_CLIENT, grpc.credentials.createInsecure());

// RESOURCE_EXHAUSTED is ResourceExhausted in Go.
const name = (code) => grpc.status[code].toLowerCase().replace(/(^|_)([a-z])/g, (_, __, c) => c.toUpperCase());

function call(header) {
  return new Promise((resolve) => {
    const metadata = new grpc.Metadata();
    const [key, value] = header.split('=');
    if (value) metadata.set(key, value);
    let served = '';
    const c = client.makeUnaryRequest('/grpc.health.v1.Health/Check', (m) => m, (m) => m, Buffer.alloc(0), metadata, { deadline: Date.now() + 5000 },
      (err) => resolve(err ? `${name(err.code)}:${err.details.replaceAll(' ', '_')}` : served));
    c.on('metadata', (m) => { served = `${m.get('served-by')[0]}/${m.get('client')[0]}`; });
  });
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [n, header = ''] = line.split(' ');
    const counts = {};
    for (let i = 0; i < Number(n); i++) {
      const what = await call(header);
      counts[what] = (counts[what] || 0) + 1;
    }
    console.log(Object.keys(counts).sort().map((k) => `${k}=${counts[k]}`).join(' '));
  }
  process.exit(0);
})();

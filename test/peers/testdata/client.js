// A client of HTTP/2: node client.js URL. It says "all is well", or what is not.
const http2 = require('http2');
const session = http2.connect(process.argv[2], { rejectUnauthorized: false });
const fail = (why) => { console.log(why); process.exit(1); };
session.on('error', fail);

function echo(size) {
  return new Promise((done) => {
    const body = Buffer.alloc(size, 'b');
    const s = session.request({ ':method': 'POST', ':path': '/echo', te: 'trailers' });
    let got = 0, trailer, status;
    s.on('response', (h) => { status = h[':status']; });
    s.on('trailers', (h) => { trailer = h['x-bytes']; });
    s.on('data', (b) => { got += b.length; });
    s.on('error', fail);
    s.on('end', () => {
      if (status !== 200 || got !== size || trailer !== String(size)) fail(`status ${status}, ${got} bytes, trailer ${trailer}; want 200 and ${size}`);
      done();
    });
    s.end(body);
  });
}

// What the server breaks off does not end as if it were whole.
function broken() {
  return new Promise((done) => {
    const s = session.request({ ':path': '/break' });
    let whole = false, failed = false;
    s.on('error', () => { failed = true; });
    s.on('end', () => { whole = s.rstCode === 0; });
    s.on('close', () => { if (whole && !failed) fail('a broken answer looks whole'); done(); });
    s.resume();
    s.end();
  });
}

(async () => {
  await Promise.all(Array.from({ length: 200 }, (_, i) => echo(i * 100)));
  await Promise.all([echo(8 << 20), echo(8 << 20), echo(1)]);
  await broken();
  await echo(10);
  console.log('all is well');
  session.close();
})();

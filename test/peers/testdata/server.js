// A server of HTTP/1.1 and one of HTTP/2: node server.js HOST:PORT HOST:PORT
// It answers with what it was sent, with the number of its bytes as a trailer.
const http = require('http');
const http2 = require('http2');

function serve(req, res) {
  if (req.url === '/break') {
    res.writeHead(200);
    res.write('so far');
    setImmediate(() => (res.stream ? res.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR) : res.destroy()));
    return;
  }
  let n = 0;
  res.writeHead(200, { trailer: 'x-bytes', 'x-method': req.method });
  req.on('data', (b) => { n += b.length; if (!res.write(b)) { req.pause(); res.once('drain', () => req.resume()); } });
  req.on('end', () => { res.addTrailers({ 'x-bytes': String(n) }); res.end(); });
}

const [h1, h2] = process.argv.slice(2).map((a) => a.split(':'));
http.createServer(serve).listen(+h1[1], h1[0]);
http2.createServer(serve).listen(+h2[1], h2[0]);

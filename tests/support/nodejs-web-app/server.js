// The web application of the walkthrough: answers on port 8080, and stops when it is asked to.
'use strict';

const http = require('http');
const os = require('os');

const server = http.createServer((request, response) => {
  console.log(`${request.method} ${request.url} from ${request.socket.remoteAddress}`);
  response.setHeader('Content-Type', 'text/plain');
  response.end(`Hello World! from ${os.hostname()}, Node.js ${process.version}, pid ${process.pid}\n`);
});

server.listen(8080, () => console.log(`listening on 8080, Node.js ${process.version}`));

// As pid 1 a process has no default action for signals: without this it would sit out the whole grace period.
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    console.log(`${signal}: closing`);
    server.close(() => process.exit(0));
    if (server.closeAllConnections) server.closeAllConnections();
  });
}

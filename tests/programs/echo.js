// Echoes and checks: echo.js serve PORT | client PORT MESSAGES BYTES, on 127.0.0.1.
"use strict";
const crypto = require("crypto");
const net = require("net");

function serve(port) {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  server.listen(port, "127.0.0.1", () => console.log("listening"));
}

function client(port, messages, length) {
  const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const bulk = crypto.randomBytes(length);
  let left = messages, sent = null, came = [], came_bytes = 0;
  const send = () => {
    came = [];
    came_bytes = 0;
    sent = left > 0 ? crypto.randomBytes(1 + crypto.randomInt(4096)) : bulk;
    left > 0 ? socket.write(sent) : socket.end(sent);
    left -= 1;
  };
  socket.setNoDelay(true);
  socket.on("connect", send);
  socket.on("data", (chunk) => {
    came.push(chunk);
    came_bytes += chunk.length;
    if (sent !== bulk && came_bytes === sent.length) {
      if (!Buffer.concat(came).equals(sent)) throw new Error("a message came back changed");
      send();
    }
  });
  socket.on("end", () => {
    if (sent !== bulk || !Buffer.concat(came).equals(bulk)) {
      throw new Error(`${length} bytes were sent, ${came_bytes} came back`);
    }
    console.log("ok", messages, length);
  });
}

const [mode, ...rest] = process.argv.slice(2);
({ serve, client })[mode](...rest.map(Number));

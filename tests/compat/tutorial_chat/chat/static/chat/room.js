"use strict";

const scheme = location.protocol === "https:" ? "wss:" : "ws:";
const socket = new WebSocket(`${scheme}//${location.host}${document.body.dataset.socket}`);
const log = document.querySelector("#log");
const text = document.querySelector("#text");

socket.addEventListener("open", () => { document.body.dataset.state = "open"; });
socket.addEventListener("close", () => { document.body.dataset.state = "closed"; });
socket.addEventListener("message", ({ data }) => {
  const { said, by } = JSON.parse(data);
  log.value += `${by}: ${said}\n`;
});

document.querySelector("#say").addEventListener("submit", (event) => {
  event.preventDefault();
  socket.send(JSON.stringify({ said: text.value }));
  text.value = "";
});

// One room: its socket, its log, its forms. Whatever people wrote gets into the page through textContent only.

const $ = (id) => document.getElementById(id);
const page = document.querySelector("main");
const log = $("log");
const url = `${location.protocol.replace("http", "ws")}//${location.host}/ws/rooms/${page.dataset.room}/`;

let name = sessionStorage.getItem("name"); // this window's; localStorage has the last one used, as a proposal
let socket = null;
let timer = 0;
let attempt = 0;
let lastId = 0; // the newest message seen: the server is asked for what came after it
const outbox = new Map(); // key -> text: said here, not yet heard back from the server, in order

// The connection

function connect() {
  leave();
  show("connecting", "Connecting…");
  socket = new WebSocket(url);
  socket.onopen = () => send({ action: "join", name, after: lastId });
  socket.onclose = retry;
  socket.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    receive[event.type]?.(event);
  };
}

function retry() {
  // Twice as long after each failure, and never the same for two windows: a server that comes back is not stormed.
  const wait = Math.min(30000, 500 * 2 ** attempt++) * (0.5 + Math.random() / 2);
  timer = setTimeout(connect, wait);
  show("waiting", `Retrying in ${Math.ceil(wait / 1000)} s`);
}

function leave() {
  clearTimeout(timer);
  timer = 0;
  if (!socket) return;
  socket.onopen = socket.onclose = socket.onmessage = null;
  socket.close();
}

const send = (content) => socket.send(JSON.stringify(content));

function show(state, text) {
  page.dataset.state = state;
  $("state").textContent = text;
}

// What the server tells, by its type

const receive = {
  welcome({ messages, more, people }) {
    attempt = 0;
    $("scroller").ariaBusy = "true"; // a screen reader need not read all of it aloud
    if (more && !$(`message-${messages[0].id}`)) line("Older messages are not shown");
    messages.forEach(receive.message);
    $("scroller").ariaBusy = "false";
    $("people").textContent = `${people} here`;
    show("online", "Connected");
    // What got through before the connection broke was in the history, and has left the outbox. The rest goes out
    // under its old keys, so that the server keeps one copy whatever happened.
    for (const [key, text] of outbox) send({ action: "say", key, text });
  },

  message({ id, name: who, text, at, key }) {
    settle(key);
    lastId = Math.max(lastId, id);
    if (!$(`message-${id}`)) bubble(`message-${id}`, who, text, at);
  },

  presence({ name: who, change, people }) {
    $("people").textContent = `${people} here`;
    if (who !== name) line(`${who} ${change}`);
  },

  notice({ text, at }) {
    line(text, "notice").append(time(at));
  },

  error({ message, key }) {
    if (!$("text").value) $("text").value = outbox.get(key) ?? "";
    settle(key);
    line(message, "error");
    if (page.dataset.state !== "online") ask(); // the name was refused
  },
};

function settle(key) {
  if (outbox.delete(key)) $(`pending-${key}`).remove();
}

// The log

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function time(at) {
  const made = element("time", "", new Date(at).toLocaleTimeString([], { timeStyle: "short" }));
  made.dateTime = at;
  made.title = new Date(at).toLocaleString();
  return made;
}

function bubble(id, who, text, at) {
  const item = element("li", `message ${who === name ? "mine" : ""} ${at ? "" : "pending"}`, "");
  item.id = id;
  item.dataset.name = who;
  // A colour for each name: an angle on the colour wheel only, so that lightness, and with it the contrast, is fixed.
  item.style.setProperty("--hue", [...who].reduce((hue, letter) => (hue * 137 + letter.codePointAt(0) * 47) % 360, 0));
  const head = element("header", "", "");
  head.append(element("strong", "", who), at ? time(at) : "sending…");
  item.append(head, element("p", "", text));
  append(item);
}

function line(text, className = "") {
  return append(element("li", `line ${className}`, text));
}

function append(item) {
  // What is not on the server yet stays below what is.
  log.insertBefore(item, item.matches(".pending") ? null : log.querySelector(".pending"));
  item.classList.toggle("follows", !!item.dataset.name && item.previousElementSibling?.dataset.name === item.dataset.name);
  return item;
}

// The forms

function ask() {
  leave();
  show("new", "");
  $("join").hidden = false;
  $("say").hidden = true;
  $("name").value = name ?? localStorage.getItem("name") ?? "";
  $("name").select();
}

function enter() {
  sessionStorage.setItem("name", name);
  localStorage.setItem("name", name);
  $("join").hidden = true;
  $("say").hidden = false;
  $("me").textContent = name;
  $("text").focus();
  connect();
}

$("rename").addEventListener("click", ask);
$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  name = $("name").value.trim();
  if (name) enter();
});

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  outbox.set(key, text);
  bubble(`pending-${key}`, name, text);
  $("scroller").scrollTop = 0; // its end: it is a reversed column
  $("text").value = "";
  if (page.dataset.state === "online") send({ action: "say", key, text });
});

$("text").addEventListener("keydown", (event) => {
  // Not while an input method is composing a word: there Enter chooses among proposals.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("say").requestSubmit();
});

$("notice").addEventListener("submit", async (event) => {
  event.preventDefault(); // without a script the form posts itself, and the view answers with a page
  const form = event.target;
  const post = { method: "POST", body: new FormData(form), headers: { Accept: "application/json" } };
  const answer = await fetch(form.action, post).catch(() => null);
  $("notice-answer").textContent = answer?.ok ? "" : "It was not posted. Try again.";
  if (!answer?.ok) return;
  form.reset();
  $("notice-card").hidePopover();
});

// The network is back before the timer is: do not wait.
addEventListener("online", () => timer && connect());
// A page that was left is kept for the Back button, its socket open: nobody is there, so it is closed meanwhile.
addEventListener("pagehide", leave);
addEventListener("pageshow", ({ persisted }) => persisted && !$("say").hidden && connect());

if (name) enter();
else ask();

// The page of pictures: sends files, and shows how far the worker is with each. Names get in through textContent only.

const $ = (id) => document.getElementById(id);
const page = document.querySelector("main");
const list = $("pictures");
const form = $("upload");
const url = `${location.protocol.replace("http", "ws")}//${location.host}/ws/pictures/`;

let socket = null;
let timer = 0;
let attempt = 0;

// The connection

function connect() {
  leave();
  socket = new WebSocket(url);
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
  show("waiting", "The server is away. The pictures are looked for again soon.");
}

function leave() {
  clearTimeout(timer);
  timer = 0;
  if (!socket) return;
  socket.onclose = socket.onmessage = null;
  socket.close();
}

function show(state, text) {
  page.dataset.state = state;
  $("state").textContent = text;
}

// What the server tells, by its type

const receive = {
  pictures({ pictures }) {
    attempt = 0;
    show("online", "");
    // Newest first. What is not in the list any more has gone.
    const keys = pictures.map(({ key }) => key);
    for (const item of [...list.children]) if (!keys.includes(item.dataset.key)) item.remove();
    for (const picture of pictures.reverse()) update(picture);
  },

  picture: update,
};

// The list

const WHAT = {
  waiting: () => "Waiting for a worker…",
  resizing: ({ percent }) => `Resizing: ${percent} %`,
  failed: ({ problem }) => problem,
  done: () => "",
};

function update(picture) {
  const item = place(picture.key);
  const { state, name, percent, sizes } = picture;
  item.dataset.state = state;
  item.querySelector(".name").textContent = name;
  item.querySelector(".what").textContent = WHAT[state](picture);
  const bar = item.querySelector("progress");
  bar.ariaLabel = `How far ${name} is resized`;
  bar.value = percent;
  if (state === "done") reveal(item, name, sizes);
}

function place(key) {
  const known = [...list.children].find((item) => item.dataset.key === key);
  // What the server has put into the page is for those without a script, and lacks some parts.
  if (known?.querySelector("progress")) return known;
  const made = $("picture").content.cloneNode(true).firstElementChild;
  made.dataset.key = key;
  if (known) known.replaceWith(made);
  else list.prepend(made);
  return made;
}

function reveal(item, name, sizes) {
  const shown = item.querySelector(".shown");
  if (!shown.hidden) return; // told twice
  const image = shown.querySelector("img");
  image.srcset = Object.entries(sizes).map(([width, address]) => `${address} ${width}w`).join(", ");
  image.sizes = "(max-width: 40rem) 100vw, 37rem";
  image.alt = name;
  shown.href = sizes[1600];
  shown.hidden = false;
  const line = item.querySelector(".sizes");
  line.textContent = "Width in pixels:";
  line.append(...Object.entries(sizes).map(([width, address]) => {
    const link = document.createElement("a");
    link.href = address;
    link.textContent = width;
    return link;
  }));
  line.hidden = false;
}

// The form

form.addEventListener("submit", async (event) => {
  event.preventDefault(); // without a script the form posts itself, and the view answers with a page
  const button = form.querySelector("button");
  button.disabled = true;
  button.textContent = "Sending…";
  $("answer").textContent = "";
  const post = { method: "POST", body: new FormData(form), headers: { Accept: "application/json" } };
  const answer = await fetch(form.action, post).catch(() => null);
  const content = await answer?.json().catch(() => null);
  button.disabled = false;
  button.textContent = "Send";
  if (answer?.ok && content) {
    form.reset();
    // The socket may have told of it already, and of how far it is by now.
    if (![...list.children].some((item) => item.dataset.key === content.key)) update(content);
  } else {
    $("answer").textContent = content?.errors?.file?.join(" ") ?? "It could not be sent. Try again.";
  }
});

// The network is back before the timer is: do not wait.
addEventListener("online", () => timer && connect());
// A page that was left is kept for the Back button, its socket open: nobody is there, so it is closed meanwhile.
addEventListener("pagehide", leave);
addEventListener("pageshow", ({ persisted }) => persisted && connect());

connect();

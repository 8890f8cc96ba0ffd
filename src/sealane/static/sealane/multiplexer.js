// Several streams over one WebSocket to Sealane's WebsocketDemultiplexer. It reconnects, and opens its streams again.
class Stream {
  onopen() {} // ({ again }): again says that it was open before, and what came meanwhile was missed
  onmessage() {} // (content): a payload as its value, a text as it is, bytes as base64
  onclose() {} // ({ code, reason, final }): a final one stays closed until open() is called
  onerror() {} // ({ code, reason }): something that was sent came to nothing
  // post() sends a part of an envelope, such as { text: "ls" }, and returns whether there was a connection.
  constructor(post) { Object.assign(this, { post, state: "closed", wanted: true, again: false }); }
  send(payload) { return this.state === "open" && this.post({ payload }); }
  open() {
    this.wanted = true;
    if (this.state === "closed" && this.post({ event: "open" })) this.state = "opening";
  }
  close(code = 1000, reason = "") {
    this.wanted = false;
    if (this.state !== "closed" && this.post({ event: "close", code, reason })) this.state = "closing";
  }
  ended(event, before = this.state) { this.state = "closed"; if (before !== "closed") this.onclose(event); }
  received({ event, code, reason, payload, text, bytes }, { state, again } = this) {
    if (event === "open" && state === "opening") {
      Object.assign(this, { state: "open", again: true });
      this.onopen({ again });
    } else if (event === "close") {
      this.wanted &&= state === "closing"; // open() was called after close()
      this.ended({ code, reason, final: !this.wanted });
      if (this.wanted) this.open();
    } else if (event === "error") this.onerror({ code, reason });
    else if (!event) this.onmessage(text ?? bytes ?? payload);
  }
}

export class Multiplexer {
  onclose() {} // ({ code, reason, final }): unless it is final, it connects again by itself
  streams = new Map(); attempt = 0;
  constructor(url) { this.url = new URL(url, location).href.replace(/^http/, "ws"); this.open(); }
  stream(name) {
    const post = (part) => this.socket.readyState === 1 && !this.socket.send(JSON.stringify({ stream: name, ...part }));
    if (!this.streams.has(name)) this.streams.set(name, new Stream(post)).get(name).open();
    return this.streams.get(name);
  }
  open() {
    clearTimeout(this.timer);
    if (this.socket?.readyState < 2) return; // it is there, or on its way
    const [socket, began] = [new WebSocket(this.url), Date.now()];
    Object.assign(this, { socket, over: false });
    socket.onopen = () => this.streams.forEach((stream) => stream.wanted && stream.open());
    socket.onmessage = ({ data }, envelope = JSON.parse(data)) => this.streams.get(envelope.stream)?.received(envelope);
    socket.onclose = ({ code, reason }) => {
      if (socket !== this.socket) return;
      const final = this.over || code >= 4000; // the server said no, and would say it again
      this.attempt = Date.now() - began > 10000 ? 0 : this.attempt + 1;
      // Longer each time, and never the same for two pages: a server that comes back is not stormed.
      const wait = Math.min(30000, 500 * 2 ** (this.attempt + 3 * (code === 1013))) * (0.5 + Math.random() / 2);
      if (!final) this.timer = setTimeout(() => this.open(), wait);
      this.streams.forEach((stream) => stream.ended({ code, reason, final }));
      this.onclose({ code, reason, final });
    };
  }
  close(code, reason) { this.over = true; clearTimeout(this.timer); this.socket.close(code, reason); }
}

// The server's ticker, at the head of every page.

const ticker = document.getElementById("ticker");
let source = null;

function watch() {
  source?.close();
  // Over HTTP/1.1 a browser opens six connections to one host, and every ticker holds one: hidden pages let go of it.
  if (document.hidden) return;
  source = new EventSource(ticker.dataset.url);
  source.addEventListener("tick", ({ data }) => {
    const { at, people } = JSON.parse(data);
    ticker.textContent = `${people} online · ${new Date(at).toLocaleTimeString()}`;
  });
  source.addEventListener("error", () => {
    ticker.textContent = "";
    // An EventSource connects again by itself, except after an answer that is not an event stream.
    if (source.readyState === EventSource.CLOSED) setTimeout(watch, 5000);
  });
}

document.addEventListener("visibilitychange", watch);
watch();

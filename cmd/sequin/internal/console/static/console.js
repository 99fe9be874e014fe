// Replaces the changing part of a page by what the server sends, about once a second. Elements that stay are kept, and with them
// the focus, the selection, the scrolling and what was typed. Without this script every page works, and shows one moment.

const live = document.getElementById("live");
const button = document.getElementById("pause");
if (live && button) follow();

function follow() {
  const state = document.getElementById("state");
  let source = null;
  let paused = false;

  const show = (text, isLive) => {
    state.textContent = text;
    button.classList.toggle("live", isLive);
  };

  // A page that nobody sees asks for nothing: a browser keeps only a few connections to a server.
  const update = () => {
    const wanted = !paused && !document.hidden;
    if (wanted && !source) open();
    if (!wanted && source) {
      source.close();
      source = null;
    }
    if (paused) show("Paused", false);
    button.setAttribute("aria-pressed", String(paused));
  };

  const open = () => {
    source = new EventSource(location.pathname + location.search);
    source.addEventListener("open", () => show("Live", true));
    source.addEventListener("error", () => {
      show("Reconnecting", false);
      if (source?.readyState !== EventSource.CLOSED) return; // the browser asks again by itself
      source = null;
      setTimeout(update, 5000);
    });
    source.addEventListener("problem", (event) => show(event.data, false));
    source.addEventListener("live", (event) => {
      const next = live.cloneNode(false);
      next.innerHTML = event.data;
      morph(live, next);
    });
    // The login is over, or what the page shows is gone: the page itself says which.
    for (const name of ["over", "gone"]) source.addEventListener(name, () => location.reload());
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    update();
  });
  document.addEventListener("visibilitychange", update);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      source = null;
      update();
    }
  });
  update();
}

// morph makes the children of an element those of another one. Children with an id keep their element.
function morph(to, from) {
  const stay = new Set();
  for (const child of from.children) if (child.id) stay.add(child.id);
  const known = new Map();
  for (const child of [...to.children]) {
    if (!child.id) continue;
    if (stay.has(child.id)) known.set(child.id, child);
    else child.remove();
  }
  const move = to.moveBefore ?? to.insertBefore; // the first keeps the focus
  let at = to.firstChild;
  for (const next of [...from.childNodes]) {
    let found = null;
    if (next.nodeType === Node.ELEMENT_NODE && next.id) {
      found = known.get(next.id) ?? null;
    } else if (at && alike(at, next)) {
      found = at;
    }
    if (!found || !alike(found, next)) {
      to.insertBefore(next, at);
      continue;
    }
    if (found === at) at = at.nextSibling;
    else move.call(to, found, at);
    if (found.nodeType === Node.ELEMENT_NODE) {
      attributes(found, next);
      morph(found, next);
    } else if (found.data !== next.data) {
      found.data = next.data;
    }
  }
  while (at) {
    const rest = at;
    at = at.nextSibling;
    rest.remove();
  }
}

// alike reports whether a node can become another one. A node with an id is only ever the one with that id.
function alike(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id ?? "") === (b.id ?? "");
}

function attributes(to, from) {
  for (const { name } of [...to.attributes]) if (!from.hasAttribute(name)) to.removeAttribute(name);
  for (const { name, value } of from.attributes) if (to.getAttribute(name) !== value) to.setAttribute(name, value);
}

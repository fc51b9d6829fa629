// Server-sent events over fetch, which sends the token in a header; over breaks, restarts and sleep.

import { headers, looked } from "./api.js";
import { setLink, state, takeEvent, takeLook } from "./state.js";

/** The daemon says at least a comment every ten seconds. */
const SILENCE = 25_000;
/** A page that nobody sees follows nothing after so long. */
const UNSEEN = 60_000;
const PAUSES = [500, 1000, 2000, 4000, 8000];

let running = null;
let hiddenTimer = null;

/** Follows until the page is closed; `onEvent` hears what happens while it is followed, not what was before. */
export function follow(onEvent) {
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = setTimeout(() => running?.abort("unseen"), UNSEEN);
    else restart();
  });
  loop(onEvent);
}

/** Begins anew, as with another token. */
export function restart() {
  running?.abort("restart");
  wake?.();
}

let wake = null;

function pause(milliseconds) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    function done() {
      clearTimeout(timer);
      wake = null;
      resolve();
    }
    wake = done;
  });
}

async function loop(onEvent) {
  for (let failures = 0; ; ) {
    if (document.hidden && running?.signal.aborted) {
      await pause(3_600_000);
      continue;
    }
    running = new AbortController();
    const { signal } = running;
    const outcome = await once(running, onEvent).catch(() => "lost");
    if (signal.aborted && signal.reason === "restart") {
      failures = 0;
      continue;
    }
    if (outcome === "again") continue;
    if (outcome === "locked") {
      setLink("locked");
      await pause(3_600_000);
      continue;
    }
    if (outcome === "ended") failures = 0;
    if (!signal.aborted || signal.reason === "silent") setLink("lost");
    await pause(PAUSES[Math.min(failures, PAUSES.length - 1)]);
    failures += 1;
  }
}

async function once(controller, onEvent) {
  const after = state.events[0]?.seq ?? 0;
  let watchdog;
  const alive = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => controller.abort("silent"), SILENCE);
  };
  alive();
  try {
    const shown = headers("GET", { Accept: "text/event-stream" });
    const response = await fetch(`/page/live?after=${after}`, { headers: shown, cache: "no-store", signal: controller.signal });
    if (looked(response.status, shown)) return "again";
    if (response.status === 401) return "locked";
    if (!response.ok) return "lost";
    const isFirst = after === 0;
    let hasLook = false;
    const take = (name, data) => {
      const told = JSON.parse(data);
      if (name === "look") {
        hasLook = true;
        takeLook(told);
        setLink("live");
      } else if (name === "event" && takeEvent(told) && (!isFirst || hasLook) && told.at >= state.asOf - 30) {
        onEvent(told);
      }
    };
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let kept = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return "ended";
      alive();
      kept += value;
      const messages = kept.split("\n\n");
      kept = messages.pop();
      for (const message of messages) read(message, take);
    }
  } finally {
    clearTimeout(watchdog);
  }
}

/** One message of a stream: https://html.spec.whatwg.org/multipage/server-sent-events.html */
function read(message, take) {
  let name = "message";
  const data = [];
  for (const line of message.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  if (data.length > 0) take(name, data.join("\n"));
}

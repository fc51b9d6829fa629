// What is known of the balancer, as the stream tells it; views draw from here and are told when it changes.

const EVENTS = 500;
const POINTS = 480;

export const state = {
  /** `connecting`, `live`, `lost` or `locked`. */
  link: "connecting",
  head: null,
  hosts: new Map(),
  services: new Map(),
  rings: new Map(),
  drains: new Map(),
  /** Live flows of drains over time, by number of the drain: [Unix seconds, flows]. */
  trails: new Map(),
  flows: [],
  /** The newest first. */
  events: [],
  asOf: 0,
  /** When that was heard, by this machine's clock. */
  heardAt: 0,
};

const TABLES = ["hosts", "services", "rings", "drains"];
const listeners = new Set();
let isDue = false;

/** Calls back at most once a frame when something has changed. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function changed() {
  if (isDue) return;
  isDue = true;
  // A page in the background draws no frames.
  const soon = document.hidden ? (f) => setTimeout(f, 500) : requestAnimationFrame;
  soon(() => {
    isDue = false;
    for (const listener of listeners) listener();
  });
}

/** The daemon's clock now. */
export function now() {
  if (state.asOf === 0) return Date.now() / 1000;
  return state.asOf + Math.max(0, (performance.now() - state.heardAt) / 1000);
}

export function setLink(link) {
  if (state.link === link) return;
  state.link = link;
  changed();
}

/** Takes a look in: everything, or what has changed. */
export function takeLook(told) {
  if (told.full) {
    for (const name of TABLES) state[name].clear();
    state.trails = new Map(Object.entries(told.trails ?? {}));
    state.flows = told.flows ?? [];
  }
  state.asOf = told.as_of;
  state.heardAt = performance.now();
  if (told.head) state.head = told.head;
  for (const name of TABLES) {
    for (const [key, row] of Object.entries(told[name] ?? {})) state[name].set(key, row);
    for (const key of told.gone?.[name] ?? []) state[name].delete(key);
  }
  for (const [id, drain] of state.drains) {
    if (drain.state !== "draining") continue;
    if (!state.trails.has(id)) state.trails.set(id, [[drain.started_at, drain.flows_at_start]]);
    follow(state.trails.get(id), told.as_of, drain.live_flows.total);
  }
  for (const id of state.trails.keys()) if (!state.drains.has(id)) state.trails.delete(id);
  if (state.head) follow(state.flows, told.as_of, state.head.live);
  changed();
}

function follow(points, at, figure) {
  const last = points.at(-1);
  if (last && at <= last[0]) return;
  points.push([at, figure]);
  // Half of them are enough for what is long ago.
  if (points.length > POINTS) points.splice(0, POINTS / 2, ...points.slice(0, POINTS / 2).filter((_, n) => n % 2 === 0));
}

/** False: it has been taken in before. */
export function takeEvent(event) {
  if (state.events.length > 0 && event.seq <= state.events[0].seq) return false;
  state.events.unshift(event);
  if (state.events.length > EVENTS) state.events.length = EVENTS;
  changed();
  return true;
}

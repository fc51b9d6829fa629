// Figures, times and states in words.

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const TENTH = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

export const count = (n) => WHOLE.format(n ?? 0);

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** A rate: with a tenth while it is small. */
export function rate(n) {
  if (!n) return "0";
  return n < 9.95 ? TENTH.format(n) : WHOLE.format(n);
}

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1000;
    unit += 1;
  }
  return `${n >= 99.5 || unit === 0 ? WHOLE.format(n) : TENTH.format(n)} ${units[unit]}`;
}

export function percent(part) {
  const n = part * 100;
  if (n === 0) return "0 %";
  if (n < 0.1) return "< 0.1 %";
  return `${n >= 99.95 ? "100" : TENTH.format(n)} %`;
}

/** Seconds as `42 s`, `3 min 07 s`, `2 h 05 min`, `3 d 4 h`. */
export function duration(seconds) {
  const n = Math.max(0, Math.round(seconds));
  const two = (x) => String(x).padStart(2, "0");
  if (n < 60) return `${n} s`;
  if (n < 3600) return `${Math.floor(n / 60)} min ${two(n % 60)} s`;
  if (n < 86400) return `${Math.floor(n / 3600)} h ${two(Math.floor((n % 3600) / 60))} min`;
  return `${Math.floor(n / 86400)} d ${Math.floor((n % 86400) / 3600)} h`;
}

/** Unix seconds as a time of day, with the day if it is not today's. */
export function moment(at) {
  const date = new Date(at * 1000);
  const today = new Date().toDateString() === date.toDateString();
  return today ? CLOCK.format(date) : `${DAY.format(date)}, ${CLOCK.format(date)}`;
}

export const iso = (at) => new Date(at * 1000).toISOString();

/** Seconds, some thirty years: what is longer has no date. */
const LONGEST = 1e9;

/**
 * `10m`, `1h 30m` or `3m07s` as seconds; null: it is no duration. A number alone is none, as on the command line: who means minutes must not get
 * seconds.
 */
export function parseDuration(text) {
  const units = { s: 1, m: 60, min: 60, h: 3600, d: 86400 };
  const trimmed = text.trim();
  let seconds = 0;
  const rest = trimmed.replace(/(\d+)\s*(min|[smhd])(?![a-z])\s*/g, (_, n, unit) => {
    seconds += Number(n) * units[unit];
    return "";
  });
  return rest === "" && trimmed !== "" && seconds <= LONGEST ? seconds : null;
}

/** Live flows by phase, in words. `live`: total, half-open, established, closing, UDP, hidden. */
export function phases(live) {
  const names = ["half-open", "established", "closing", "udp"];
  const parts = names.map((name, n) => [live[n + 1], name]).filter(([n]) => n > 0);
  return parts.map(([n, name]) => `${count(n)} ${name}`).join(", ");
}

/** The same of the API's object. */
export function phasesOf(live) {
  return phases([live.total, live.half_open, live.established, live.closing, live.udp]);
}

/** A host's state as one word: what the operator wants stands before what checks say. */
export function stateOf(host) {
  if (host.admin === "draining") return "draining";
  if (host.admin === "drained") return "drained";
  if (host.admin === "disabled") return "disabled";
  if (host.oper === "down") return "down";
  if (host.ramp) return "coming back";
  if ((host.down_for ?? []).length > 0) return "down in part";
  if (host.oper === "unknown") return "not known yet";
  return "in use";
}

export const isOut = (host) => host.admin === "draining" || host.admin === "drained";

export function names(list, most = 3) {
  if (list.length <= most) return list.join(", ");
  return `${list.slice(0, most).join(", ")} and ${count(list.length - most)} more`;
}

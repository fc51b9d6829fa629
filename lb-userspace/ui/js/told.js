// Events in words, and which of them are read out.

import { count } from "./format.js";

/** Without host and service, which stand beside it. */
export function told(event) {
  const by = event.by ? `by ${event.by}${event.reason ? `: ${event.reason}` : ""}` : "";
  switch (event.event) {
    case "drained": return `outcome ${event.outcome}, ${by}`;
    case "undrained":
    case "lease_over": return `${event.left === null ? "" : `${count(event.left)} flows left, `}${by}`;
    case "drain_overdue": return `${count(event.left)} flows go on, ${by}`;
    case "deadline": return `${count(event.left)} flows: ${event.at_deadline}, ${by}`;
    case "kick_began": return `${count(event.chosen)} flows, ${event.rate} a second, ${by}`;
    case "kick_ended": return `${count(event.kicked)} of ${count(event.chosen)} flows, ${by}`;
    case "published": return `generation ${count(event.generation)}`;
    case "config_applied": return `revision ${event.revision} (${event.kind}) ${by}${event.confirm_by ? ", to be confirmed" : ""}`;
    case "config_confirmed":
    case "config_failed": return `revision ${event.revision} ${by}`;
    case "violation": return `${event.counter} by ${count(event.more)}`;
    case "daemon_started": return `version ${event.version}${event.adopted ? ", took over the data path" : ""}`;
    case "maintain_began": return `run ${event.run}, ${event.name}, ${count(event.hosts)} hosts, ${by}`;
    case "maintain_step": return `run ${event.run}: ${event.step}${event.is_back ? ", on its way back" : ""}`;
    case "maintain_ended": return `run ${event.run}, ${event.name}: ${event.outcome}${event.why ? `, ${event.why}` : ""}`;
    case "shift": return `shift ${event.shift}: ${event.state}, ${Math.round(event.wanted * 100)} %`;
    case "lost": return event.count === null ? "some events are not remembered" : `${count(event.count)} events are not remembered`;
    default: return [event.why, by].filter(Boolean).join(" ");
  }
}

/** What is read out: few words, together where much happens at once. */
const SPOKEN = {
  drain_began: "began to drain", drained: "drained", undrained: "taken back", lease_over: "taken back at the end of its lease",
  drain_overdue: "overdue", host_down: "down", host_up: "up",
};
const TOGETHER = 1500;

/** `self()`: whose own deeds need no telling. */
export function speaker(say, self) {
  let waiting = new Map();
  let timer = null;
  function flush() {
    timer = null;
    for (const [word, hosts] of waiting) {
      const all = [...hosts];
      say(all.length <= 3 ? `${all.join(", ")}: ${word}` : `${count(all.length)} hosts: ${word}`, /down|overdue/.test(word) ? "warn" : "done");
    }
    waiting = new Map();
  }
  return (event) => {
    if (event.event === "violation") return say(`${event.counter} must be 0 and is not`, "warn");
    const word = SPOKEN[event.event];
    if (!word || !event.host || (event.by === self() && !["drained", "drain_overdue"].includes(event.event))) return;
    if (!waiting.has(word)) waiting.set(word, new Set());
    waiting.get(word).add(event.host);
    timer ??= setTimeout(flush, TOGETHER);
  };
}


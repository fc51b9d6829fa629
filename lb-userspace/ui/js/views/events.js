// What happens, as it happens; the newest first.

import { h, redraw } from "../dom.js";
import { count } from "../format.js";
import { hostLink, serviceLink, time } from "../parts.js";
import { state } from "../state.js";
import { told } from "../told.js";

const SHOWN = 200;

export function events() {
  const list = h("ol", { class: "events" });
  const kinds = h("select", { "aria-label": "Which events" }, ["all", "drains", "health", "config", "maintenance"].map((of) => h("option", { value: of, text: of })));
  const sets = {
    drains: /^(drain|deadline|undrained|lease|kick)/,
    health: /^(host_|panic|standby)/,
    config: /^(config|published|daemon|violation|self)/,
    maintenance: /^(maintain|shift)/,
  };
  const draw = () => {
    const wanted = state.events.filter((event) => !sets[kinds.value] || sets[kinds.value].test(event.event)).slice(0, SHOWN);
    redraw(list, wanted.map((event) => event.seq), () => wanted.map((event) => h("li", { class: `event event-${event.event}` },
      time(event.at), h("span", { class: "event-name", text: event.event.replaceAll("_", " ") }),
      h("span", {}, event.host && [hostLink(event.host), " "], event.service && [serviceLink(event.service), " "], h("span", { text: told(event) })))));
  };
  kinds.addEventListener("change", draw);
  return {
    title: "Events",
    root: h("section", { "aria-labelledby": "title" }, h("div", { class: "page-head" }, h("h1", { id: "title", tabindex: "-1", text: "Events" }), kinds),
      h("p", { class: "muted", text: `The last ${count(SHOWN)} that the daemon remembers.` }), list),
    update: draw,
  };
}

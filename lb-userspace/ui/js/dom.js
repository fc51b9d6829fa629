// Elements without markup in strings: what comes from the daemon is text, and never becomes anything else.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name === "style") for (const [key, of] of Object.entries(value)) element.style.setProperty(key, of);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** An element of HTML: `h("p", {class: "x", onclick: f}, "text", child)`. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An element of SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Writes a text, unless it is there already: a selection or a screen reader's place survives. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Draws an element's content anew, unless what it is drawn from is as it was. */
export function redraw(element, from, draw) {
  const mark = JSON.stringify(from);
  if (element.drawnFrom === mark) return;
  element.drawnFrom = mark;
  const places = "a, button, input, select, summary";
  const active = document.activeElement;
  const place = element !== active && element.contains(active) ? [...element.querySelectorAll(places)].indexOf(active) : -1;
  element.replaceChildren(...[draw()].flat().filter(Boolean));
  if (place < 0) return;
  // Whoever was in it stays there, at what has taken the place.
  const now = element.querySelectorAll(places);
  (now[place] ?? now[0])?.focus({ preventScroll: true });
}

/** Attribute on or off. */
export function toggle(element, name, on) {
  if (on) element.setAttribute(name, "");
  else element.removeAttribute(name);
}

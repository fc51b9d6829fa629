// Tables of many rows: filtered, sorted and in pages, so that a thousand rows cost what fifty do. Rows keep their elements while they are
// shown, so focus and selection survive each update; the order stands still while somebody points at it.

import { h, redraw, write } from "./dom.js";
import { count, plural } from "./format.js";

const PAGE = 50;
/** Milliseconds after which the order follows figures that have changed. */
const REORDER = 5000;

/**
 * `columns`: {name, of, sort?, numeric?, wide?, text? | draw?, mark?}. `text(row, key)` is a cell's text, or `draw(row, key)` its content, drawn
 * anew when `mark(row, key)` changes. `rows()` gives a Map. `words(row, key)` is what the filter looks in. `filters`: {name, fits(row)}.
 * `choose()`: rows have a box to be chosen by, and it is called when others are chosen.
 */
export function table({ name, one, columns, rows, words, filters = [], sort, choose = null, empty, label = null }) {
  const chosen = new Set();
  const shown = new Map();
  let order = [];
  let orderedAt = -Infinity;
  let page = 0;
  let wanted = { text: "", filter: filters[0]?.name ?? null, column: sort[0], down: sort[1] };

  const search = h("input", { type: "search", placeholder: "Filter", "aria-label": `Filter ${name.toLowerCase()}`, autocomplete: "off", spellcheck: "false" });
  const select = filters.length > 0 && h("select", { "aria-label": `Which ${name.toLowerCase()}` }, filters.map((f) => h("option", { value: f.name, text: f.name })));
  const sorter = h("select", { "aria-label": "Sort by" }, columns.filter((c) => c.sort).map((c) => h("option", { value: c.name, text: `by ${c.name.toLowerCase()}` })));
  const summary = h("p", { class: "summary", role: "status" });
  const tools = h("div", { class: "tools" }, search, select || null, h("span", { class: "sorter" }, sorter), summary);

  const heads = new Map();
  const all = choose && h("input", { type: "checkbox", "aria-label": "Choose all on this page" });
  const headRow = h("tr", { role: "row" }, all && h("th", { role: "columnheader", class: "choose" }, all), columns.map((column) => {
    const cell = h("th", { role: "columnheader", scope: "col", class: column.numeric ? "numeric" : null });
    if (column.sort) {
      cell.append(h("button", { type: "button", onclick: () => sortBy(column.name) }, column.name, h("span", { class: "arrow", "aria-hidden": "true" })));
    } else {
      cell.append(h("span", { class: column.silent ? "unseen" : null, text: column.name }));
    }
    heads.set(column.name, cell);
    return cell;
  }));
  const body = h("tbody", { role: "rowgroup" });
  const grid = h("table", { class: "grid", role: "table", "aria-label": label ?? name }, h("thead", { role: "rowgroup" }, headRow), body);
  const none = h("p", { class: "none" });
  const back = h("button", { type: "button", text: "Previous", onclick: () => turn(-1) });
  const on = h("button", { type: "button", text: "Next", onclick: () => turn(1) });
  const where = h("span", { class: "where" });
  const pager = h("nav", { class: "pager", "aria-label": `Pages of ${name.toLowerCase()}` }, back, where, on);
  const root = h("div", { class: "table" }, tools, h("div", { class: "scroll" }, grid), none, pager);

  search.addEventListener("input", () => want({ text: search.value.trim().toLowerCase() }));
  select && select.addEventListener("change", () => want({ filter: select.value }));
  sorter.addEventListener("change", () => sortBy(sorter.value));
  all && all.addEventListener("change", () => {
    for (const [key, row] of shown) {
      if (all.checked) chosen.add(key);
      else chosen.delete(key);
      row.box.checked = all.checked;
    }
    choose();
  });
  body.addEventListener("keydown", step);

  function want(change) {
    wanted = { ...wanted, ...change };
    page = 0;
    reorder();
    update();
  }

  function sortBy(column) {
    const first = columns.find((c) => c.name === column).numeric ? true : false;
    want({ column, down: wanted.column === column ? !wanted.down : first });
  }

  function turn(by) {
    page += by;
    update();
    root.scrollIntoView({ block: "nearest" });
    // A button that can go no further loses the focus.
    if (document.activeElement === document.body) (by > 0 ? back : on).focus();
  }

  /** Up and down go to the same control of the row above or below. */
  function step(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = event.target.closest("tr");
    if (!by || !row || event.target.matches("select, input:not([type=checkbox])")) return;
    const places = [...row.querySelectorAll("a, button, input")];
    const next = by > 0 ? row.nextElementSibling : row.previousElementSibling;
    const same = next && [...next.querySelectorAll("a, button, input")];
    const place = same && (same[places.indexOf(event.target)] ?? same[0]);
    if (place) {
      place.focus();
      event.preventDefault();
    }
  }

  function fits(row, key) {
    const filter = filters.find((f) => f.name === wanted.filter);
    return (!filter?.fits || filter.fits(row, key)) && (!wanted.text || words(row, key).toLowerCase().includes(wanted.text));
  }

  function reorder() {
    const column = columns.find((c) => c.name === wanted.column);
    const kept = [];
    for (const [key, row] of rows()) if (fits(row, key)) kept.push([column.sort(row, key), key]);
    const sign = wanted.down ? -1 : 1;
    kept.sort(([a, x], [b, y]) => (a < b ? -sign : a > b ? sign : x.localeCompare(y, "en", { numeric: true })));
    order = kept.map(([, key]) => key);
    orderedAt = performance.now();
  }

  function update() {
    const known = rows();
    const isHeld = root.matches(":hover") || body.contains(document.activeElement);
    const isStale = performance.now() - orderedAt > REORDER;
    if ((isStale && !isHeld) || order.some((key) => !known.has(key)) || isMore(known)) reorder();
    const pages = Math.max(1, Math.ceil(order.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const keys = order.slice(page * PAGE, (page + 1) * PAGE);
    for (const [column, cell] of heads) {
      if (column === wanted.column) cell.setAttribute("aria-sort", wanted.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    sorter.value = wanted.column;
    place(keys, known);
    let gone = false;
    for (const key of chosen) if (!known.has(key)) gone = chosen.delete(key) || gone;
    if (gone) choose();
    if (all) all.checked = keys.length > 0 && keys.every((key) => chosen.has(key));
    write(summary, order.length === known.size ? plural(known.size, one) : `${count(order.length)} of ${plural(known.size, one)}`);
    write(none, order.length === 0 ? (known.size === 0 ? empty : "None fits the filter.") : "");
    tools.hidden = known.size === 0;
    none.hidden = order.length > 0;
    grid.hidden = order.length === 0;
    grid.setAttribute("aria-rowcount", order.length + 1);
    pager.hidden = pages === 1;
    write(where, `${count(page * PAGE + 1)} to ${count(Math.min(order.length, (page + 1) * PAGE))} of ${count(order.length)}`);
    back.disabled = page === 0;
    on.disabled = page === pages - 1;
  }

  let size = -1;
  /** Rows have come or gone. */
  function isMore(known) {
    const is = known.size !== size;
    size = known.size;
    return is;
  }

  /** Puts the rows of a page in their order, and moves none that stands right. */
  function place(keys, known) {
    const wantedKeys = new Set(keys);
    for (const [key, row] of shown) {
      if (!wantedKeys.has(key)) {
        row.element.remove();
        shown.delete(key);
      }
    }
    let at = body.firstElementChild;
    keys.forEach((key, index) => {
      let row = shown.get(key);
      if (!row) {
        row = make(key);
        shown.set(key, row);
      }
      if (row.element === at) at = at.nextElementSibling;
      else body.insertBefore(row.element, at);
      row.element.setAttribute("aria-rowindex", page * PAGE + index + 2);
      paint(row, known.get(key), key);
    });
  }

  function make(key) {
    const cells = columns.map((column) => h(column.head ? "th" : "td", {
      role: column.head ? "rowheader" : "cell",
      scope: column.head ? "row" : null,
      class: [column.numeric && "numeric", column.wide && "wide", column.head && "head", column.act && "act"].filter(Boolean).join(" ") || null,
      "data-name": column.head || column.act ? null : column.name,
    }));
    const box = choose && h("input", {
      type: "checkbox",
      "aria-label": `Choose ${key}`,
      onchange: () => {
        if (box.checked) chosen.add(key);
        else chosen.delete(key);
        choose();
      },
    });
    if (box) box.checked = chosen.has(key);
    return { cells, box, element: h("tr", { role: "row" }, box && h("td", { role: "cell", class: "choose" }, box), cells) };
  }

  function paint(row, data, key) {
    columns.forEach((column, n) => {
      if (column.text) write(row.cells[n], column.text(data, key));
      else redraw(row.cells[n], column.mark(data, key), () => column.draw(data, key));
    });
  }

  return {
    root,
    update,
    search,
    /** The keys that are chosen now. */
    chosen: () => [...chosen].filter((key) => rows().has(key)),
    /** Of these keys, how many the filter does not show. */
    hidden: (keys) => keys.filter((key) => !fits(rows().get(key), key)).length,
    /** Shows those that fit one filter alone. */
    show(filter) {
      if (select) select.value = filter;
      want({ filter });
    },
    unchoose() {
      chosen.clear();
      for (const row of shown.values()) row.box.checked = false;
      if (all) all.checked = false;
      choose();
    },
  };
}

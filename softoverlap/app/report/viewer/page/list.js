"use strict";
/* The list of cases: sorted by a score, the worst first, and searched by name. */

const CaseList = (() => {
  const element = (id) => document.getElementById(id);

  function number(value) {
    return value === null || value === undefined ? "–" : String(Number(value.toPrecision(4)));
  }

  function title(one) {
    return one.label ? `${one.name}, label ${one.label}` : one.name;
  }

  /** Order by a column: failed cases first, those without the score last; what is best near 0 by
   * its distance from there. */
  function sorted(cases, { name, bestNearZero }, ascending) {
    const key = (one) => {
      if (one.error) return -Infinity;
      const value = one.scores[name];
      if (value === null || value === undefined) return Infinity;
      const place = bestNearZero ? Math.abs(value) : value;
      return ascending ? place : -place;
    };
    const keyed = cases.map((one) => [key(one), one]);
    keyed.sort(([a, first], [b, second]) => {
      if (a !== b) return a < b ? -1 : 1;
      return title(first).localeCompare(title(second), undefined, { numeric: true });
    });
    return keyed.map(([, one]) => one);
  }

  /** Fills the list of the viewer's data; `choose` is called with the case that a user takes. */
  function create({ cases, columns, rankedBy }, choose) {
    const known = (name) => columns.find((column) => column.name === name);
    let order = cases;
    let ascending = true;
    let current = null;

    function show() {
      const column = element("column").value;
      element("column").title = known(column)?.words ?? "";
      const wanted = element("filter").value.trim().toLowerCase();
      order = column === "name"
        ? [...cases].sort((a, b) => title(a).localeCompare(title(b), undefined, { numeric: true }))
        : sorted(cases, known(column), ascending);
      if (column === "name" && !ascending) order.reverse();
      order = order.filter((one) => title(one).toLowerCase().includes(wanted));
      element("list").replaceChildren(...order.map((one) => entry(one, column)));
      element("count").textContent = `${order.length} of ${cases.length}`;
      element("direction").textContent =
        column === "name" ? (ascending ? "A to Z" : "Z to A") : ascending ? "low first" : "high first";
      mark();
    }

    function entry(one, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(span("case", title(one)));
      const score = one.error ? "failed" : column === "name" ? "" : number(one.scores[column]);
      button.append(span(one.error ? "failed" : "score", score));
      button.title = one.error || one.warning || title(one);
      button.addEventListener("click", () => choose(one));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }

    function span(kind, text) {
      const part = document.createElement("span");
      part.className = kind;
      part.textContent = text;
      return part;
    }

    function mark() {
      order.forEach((one, index) => {
        const button = element("list").children[index].firstChild;
        if (one === current) {
          button.setAttribute("aria-current", "true");
          CaseList.reveal(button);
        } else button.removeAttribute("aria-current");
      });
    }

    function step(by) {
      if (!order.length) return;
      const at = order.indexOf(current);
      choose(order[at < 0 ? 0 : (at + by + order.length) % order.length]);
    }

    function select(one) {
      current = one;
      mark();
    }

    element("column").append(new Option("Name", "name"), ...columns.map((one) => new Option(one.heading, one.name)));
    element("column").value = rankedBy ?? "name";
    element("column").addEventListener("change", () => {
      ascending = !known(element("column").value)?.highIsBad;
      show();
    });
    element("direction").addEventListener("click", () => {
      ascending = !ascending;
      show();
    });
    element("filter").addEventListener("input", show);
    show();
    return { step, select, first: () => order.find((one) => !one.error) ?? order[0], title, number };
  }

  /** Scroll a list, and not the page, until one of its buttons is seen. */
  function reveal(button) {
    const list = button.closest("ol");
    const [inner, outer] = [button.getBoundingClientRect(), list.getBoundingClientRect()];
    if (inner.top < outer.top) list.scrollTop += inner.top - outer.top;
    if (inner.bottom > outer.bottom) list.scrollTop += inner.bottom - outer.bottom;
  }

  return { create, reveal };
})();

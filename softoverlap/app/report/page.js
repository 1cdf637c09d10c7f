(() => {
  "use strict";
  const STEP = 100;

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function setUpTheme() {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
    const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      document.documentElement.dataset.theme = isDark() ? "light" : "dark";
      name();
    });
    system.addEventListener("change", name);
    button.hidden = false;
    name();
  }

  // Numbers before words, both before what is missing.
  function compare(a, b, way) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return way * order;
  }

  const OPERATORS = {
    "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
    "=": (a, b) => a === b,
  };

  function wordsOf(query) {
    return query.toLowerCase().replace(/\s*(<=|>=|<|>|=)\s*/g, "$1").split(/\s+/).filter(Boolean);
  }

  /** The column, sign and limit of a condition such as soft_dice<0.5, or null if it is none. */
  function condition(word, columns, numeric) {
    const [, name, sign, limit] = word.match(/^(\w+)(<=|>=|<|>|=)([^<>=].*)$/) || [];
    const at = columns.findIndex((column) => column.name.toLowerCase() === name);
    return at < 0 || (numeric[at] && Number.isNaN(Number(limit))) ? null : [at, sign, limit];
  }

  // Words that a row must hold, and conditions such as soft_dice<0.5.
  function conditions(query, columns, numeric) {
    return wordsOf(query).map((word) => {
      const found = condition(word, columns, numeric);
      if (!found) return (row) => row.text.includes(word);
      const [at, sign, limit] = found;
      const number = Number(limit);
      if (!Number.isNaN(number)) return (row) => typeof row.cells[at] === "number" && OPERATORS[sign](row.cells[at], number);
      return (row) => row.cells[at] !== null && OPERATORS[sign](String(row.cells[at]).toLowerCase(), limit);
    });
  }

  function shown(value) {
    if (typeof value !== "number") return value === null ? "" : value;
    return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  }

  function setUpTable(place) {
    const data = JSON.parse(document.getElementById(place.dataset.source).textContent);
    const rows = data.rows.map((cells, index) => ({
      cells, link: data.links[index] || "",
      text: cells.filter((cell) => cell !== null).join(" ").toLowerCase(),
    }));
    const errors = data.columns.findIndex((column) => column.name === "error");
    const numeric = data.columns.map((_, at) => rows.every((row) => row.cells[at] === null || typeof row.cells[at] === "number"));
    const state = { column: -1, way: 1, query: "", all: false, limit: STEP, printing: false };

    const search = make("input", { type: "search", placeholder: "Filter", autocomplete: "off" });
    search.setAttribute("aria-label", `Filter ${data.noun}s`);
    const count = make("span", { className: "count" });
    count.setAttribute("role", "status");
    const controls = make("div", { className: "controls" }, search, count);
    const all = make("input", { type: "checkbox" });
    if (data.main < data.columns.length) controls.append(make("label", {}, all, "All columns"));
    const example = data.columns.some((column) => column.name === "soft_dice") ? "soft_dice<0.5" : "lesions>3";
    const hint = make("p", { className: "hint", });
    const help = `Words, or conditions such as ${example}. Click a heading to sort.`;
    const head = make("tr", {});
    const body = make("tbody", {});
    const frame = make("div", { className: "scroll", tabIndex: 0 }, make("table", {}, make("thead", {}, head), body));
    const more = make("button", { type: "button", className: "more" });
    place.replaceChildren(controls, hint, frame, more);

    const visible = () => data.columns.slice(0, state.all ? data.columns.length : data.main);

    // On paper a button would break the words, and not come again on the next page.
    function heading(column, at) {
      if (state.printing) {
        const parts = column.name.split("_").map((part, nth) => [...(nth ? ["_", make("wbr", {})] : []), part]);
        return make("span", {}, ...parts.flat());
      }
      const button = make("button", { type: "button", title: column.words, textContent: column.name });
      button.addEventListener("click", () => {
        state.way = state.column === at ? -state.way : 1;
        state.column = at;
        draw();
      });
      return button;
    }

    function drawHead() {
      head.replaceChildren(...visible().map((column, at) => {
        const cell = make("th", { scope: "col", className: numeric[at] ? "number" : "" }, heading(column, at));
        if (state.column === at) cell.setAttribute("aria-sort", state.way > 0 ? "ascending" : "descending");
        return cell;
      }));
    }

    function drawRow(row) {
      const cells = visible().map((column, at) => {
        const value = shown(row.cells[at]);
        const content = at === 0 && row.link ? make("a", { href: `#${row.link}`, textContent: value }) : value;
        const cell = make("td", { className: numeric[at] ? "number" : "" }, content);
        cell.dataset.name = column.name; // a narrow page shows it in place of the heading
        return cell;
      });
      return make("tr", { className: errors >= 0 && row.cells[errors] !== null ? "failed" : "" }, ...cells);
    }

    function draw() {
      const kept = rows.filter((row) => conditions(state.query, data.columns, numeric).every((holds) => holds(row)));
      if (state.column >= 0) kept.sort((a, b) => compare(a.cells[state.column], b.cells[state.column], state.way));
      const wrong = wordsOf(state.query).find((word) => /[<>=]/.test(word) && !condition(word, data.columns, numeric));
      hint.textContent = wrong ? `${wrong} is no condition on a column, and is looked for as a word. ${help}` : help;
      drawHead();
      body.replaceChildren(...kept.slice(0, state.limit).map(drawRow));
      count.textContent = `${kept.length} of ${rows.length} ${data.noun}s`;
      more.hidden = kept.length <= state.limit;
      more.textContent = `Show more (${Math.min(state.limit, kept.length)} of ${kept.length})`;
    }

    search.addEventListener("input", () => { state.query = search.value; state.limit = STEP; draw(); });
    all.addEventListener("change", () => { state.all = all.checked; draw(); });
    more.addEventListener("click", () => { state.limit += 5 * STEP; draw(); });
    let before = STEP;
    addEventListener("beforeprint", () => {
      before = state.limit;
      Object.assign(state, { limit: Math.max(before, 1000), printing: true });
      draw();
    });
    addEventListener("afterprint", () => { Object.assign(state, { limit: before, printing: false }); draw(); });
    draw();
  }

  setUpTheme();
  document.querySelectorAll("[data-source]").forEach(setUpTable);
})();

"use strict";
// What every page does: theme, deep links, tables that sort, filter and download, and reloading while a study runs.
const page = (() => {
  const STILL_MS = 4000; // a reader who did nothing for so long is not disturbed by a reload
  const root = document.documentElement;
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const remembered = { // storage is refused to some local files
    get: () => { try { return localStorage.getItem("report-theme"); } catch { return null; } },
    set: (theme) => { try { localStorage.setItem("report-theme", theme); } catch { /* not remembered */ } },
  };
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  root.classList.add("js");
  if (["light", "dark"].includes(remembered.get())) root.dataset.theme = remembered.get();

  function startTheme(changed) {
    const button = document.getElementById("theme");
    const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      remembered.set(root.dataset.theme);
      label();
      changed();
    });
    prefersDark.addEventListener("change", () => { label(); changed(); });
    label();
  }

  // ---- the address: "#runs?stage=confirm&sort=-rho" is a place and what is shown there
  const parts = () => {
    const [place, query] = location.hash.slice(1).split("?", 2);
    return { place: decoded(place), query: query === undefined ? null : new URLSearchParams(query) };
  };
  const decoded = (text) => { try { return decodeURIComponent(text); } catch { return text; } };

  function write(place, values, replace) {
    const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString();
    const hash = query ? `#${place}?${query}` : `#${place}`;
    if (hash !== location.hash) history[replace ? "replaceState" : "pushState"](history.state, "", hash);
  }

  function reveal() {
    const target = document.getElementById(parts().place);
    if (!target) return;
    for (let box = target; box; box = box.parentElement?.closest("details")) if (box.tagName === "DETAILS") box.open = true;
    target.scrollIntoView();
  }

  // Every part of the page that keeps its state in the address: {place, restore(query)}.
  const kept = [];

  function followAddress() {
    const { place, query } = parts();
    for (const one of kept) if (one.place === place || !place) one.restore(query ?? new URLSearchParams());
    return query !== null;
  }

  function startAddress() {
    api.returned = remembrance();
    if (location.hash) followAddress();
    if (!api.returned) reveal();
    addEventListener("hashchange", () => { if (!followAddress()) reveal(); });
    addEventListener("click", (event) => { // a link to a place that keeps its state there: "#runs?q=1a2b"
      if (!event.defaultPrevented && event.target.closest?.('a[href^="#"][href*="?"]')) setTimeout(reveal);
    });
  }

  // ---- tables: sort, filter, download
  const valueOf = (cell) => cell.dataset.v ?? cell.textContent.trim();
  const heads = (table) => [...table.tHead.rows[0].cells];
  const columnOf = (table, name) => heads(table).findIndex((header) => header.dataset.csv === name);

  function order(a, b) {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  }

  function sort(table, column, descending) {
    for (const [index, header] of heads(table).entries()) {
      if (index === column) header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    }
    table.classList.toggle("sorted", column >= 0);
    const rows = table.tBodies[0].asWritten;
    if (column < 0) return table.tBodies[0].append(...rows);
    const [known, unknown] = [[], []];
    for (const row of rows) (valueOf(row.cells[column]) === "" ? unknown : known).push(row);
    known.sort((a, b) => (descending ? -1 : 1) * order(valueOf(a.cells[column]), valueOf(b.cells[column])));
    table.tBodies[0].append(...known, ...unknown);
  }

  const sorting = (table) => {
    const header = heads(table).find((one) => one.hasAttribute("aria-sort"));
    return header ? (header.getAttribute("aria-sort") === "descending" ? "-" : "") + header.dataset.csv : "";
  };

  function sortBy(table, name) {
    sort(table, name ? columnOf(table, name.replace(/^-/, "")) : -1, name.startsWith("-"));
  }

  function startTable(table) {
    const form = document.querySelector(`[data-filters="${table.id}"]`);
    const rows = table.tBodies[0].asWritten = [...table.tBodies[0].rows];
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const selects = all("select", form);
    for (const select of selects) {
      const values = new Set(rows.map((row) => row.cells[columnOf(table, select.name)].textContent.trim()));
      select.append(...[...values].sort().map((value) => new Option(value, value)));
    }
    const show = () => {
      const words = form.elements.q.value.toLowerCase().split(/\s+/);
      const wanted = selects.filter((select) => select.value).map((select) => [columnOf(table, select.name), select.value]);
      let count = 0;
      rows.forEach((row, index) => {
        const fits = words.every((word) => texts[index].includes(word))
          && wanted.every(([column, value]) => row.cells[column].textContent.trim() === value);
        row.hidden = !fits;
        count += fits;
      });
      form.querySelector("output").textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    };
    const place = form.dataset.place;
    const note = (replace) => {
      const values = Object.fromEntries([...new FormData(form)]);
      write(place, { ...values, sort: sorting(table) }, replace);
    };
    let typing = false; // the letters of one search are one step back, not one each
    form.addEventListener("input", (event) => {
      show();
      const typed = event.target.type === "search";
      note(typed && typing);
      typing = typed;
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    heads(table).forEach((header, column) => {
      if (!header.dataset.csv) return;
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: header.textContent });
      button.addEventListener("click", () => {
        sort(table, column, header.getAttribute("aria-sort") === "ascending");
        typing = false;
        note(false);
      });
      header.replaceChildren(button);
    });
    kept.push({
      place,
      restore(query) {
        for (const field of form.elements) if (field.name) field.value = query.get(field.name) ?? "";
        for (const select of selects) if (select.selectedIndex < 0) select.value = ""; // a value that is not here
        typing = false;
        show();
        if (sorting(table) !== (query.get("sort") ?? "")) sortBy(table, query.get("sort") ?? "");
      },
    });
    show();
  }

  function csvCell(text) {
    const guarded = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
    return /[",\n\r]/.test(guarded) ? `"${guarded.replaceAll('"', '""')}"` : guarded;
  }

  function csv(table) {
    const columns = heads(table).flatMap((header, index) => (header.dataset.csv ? [index] : []));
    const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
    const lines = rows.map((row) => columns.map((index) => csvCell(valueOf(row.cells[index]))));
    return [columns.map((index) => csvCell(heads(table)[index].dataset.csv)), ...lines]
      .map((line) => line.join(",")).join("\r\n") + "\r\n";
  }

  function save(name, text, type) {
    const link = Object.assign(document.createElement("a"), { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function startDownloads() {
    for (const button of all("[data-download]")) {
      const id = button.dataset.download;
      const name = `${document.body.dataset.name}-${id.replace(/-table$/, "")}.csv`;
      button.addEventListener("click", async () => {
        const table = document.getElementById(id);
        await api.fill(table);
        save(name, csv(table), "text/csv");
      });
    }
  }

  // ---- while the study runs, its page is written anew: come back to it now and then, and to the same place in it
  function boxes() { // every folding part by a name that a page with more in it gives it too
    const named = new Map();
    for (const box of all("details")) {
      const home = box.closest("[id]")?.id ?? "";
      let number = 0;
      while (named.has(`${home} ${number}`)) number++;
      named.set(`${home} ${number}`, box);
    }
    return named;
  }

  function remembrance() {
    const here = history.state?.reloaded;
    if (!here) return false;
    history.replaceState({ ...history.state, reloaded: null }, "");
    for (const [name, box] of boxes()) box.open = here.open[name] ?? box.open;
    scrollTo(here.x, here.y);
    return true;
  }

  function startReloading() {
    const every = Number(document.body.dataset.reload) * 1000;
    if (!every) return;
    let touched = performance.now();
    const touch = () => { touched = performance.now(); };
    for (const event of ["pointerdown", "pointermove", "keydown", "wheel", "scroll", "input"]) addEventListener(event, touch, { passive: true });
    const undisturbed = () => document.visibilityState === "visible" && performance.now() - touched > Math.min(STILL_MS, every)
      && getSelection().isCollapsed && !document.activeElement?.matches("input, select");
    setTimeout(function come() {
      if (!undisturbed()) return setTimeout(come, 500);
      const open = Object.fromEntries([...boxes()].map(([name, box]) => [name, box.open]));
      history.scrollRestoration = "manual";
      history.replaceState({ ...history.state, reloaded: { x: scrollX, y: scrollY, open } }, "");
      location.reload();
    }, every);
  }

  function start(themeChanged) {
    startTheme(themeChanged);
    all("table[data-sortable]:not([data-packed])").forEach(startTable);
    startDownloads();
    startAddress();
    startReloading();
  }

  const api = { all, csvCell, fill: async () => {}, isDark, kept, prefersDark, root, save, start, startTable, write };
  return api;
})();

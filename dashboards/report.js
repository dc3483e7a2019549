"use strict";
(() => {
  const NARROW = 560, PRINT_WIDTH = 680;
  const root = document.documentElement;
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const remembered = { // storage is refused to some local files
    get: () => { try { return localStorage.getItem("report-theme"); } catch { return null; } },
    set: (theme) => { try { localStorage.setItem("report-theme", theme); } catch { /* not remembered */ } },
  };
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const isDark = () => !printing && (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  root.classList.add("js");
  if (["light", "dark"].includes(remembered.get())) root.dataset.theme = remembered.get();

  // ---- figures: plotly.js is inflated once, a figure is drawn when it comes near or when there is time
  let figures, plotly;
  const drawn = new Map();

  function inflate() {
    plotly ??= (async () => {
      const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
      const source = URL.createObjectURL(new Blob([await new Response(stream).blob()], { type: "text/javascript" }));
      await new Promise((resolve, reject) => {
        const script = Object.assign(document.createElement("script"), { src: source, onload: resolve, onerror: reject });
        document.head.append(script);
      });
      URL.revokeObjectURL(source);
    })();
    return plotly;
  }

  function swapped(value, key) {
    if (typeof value === "string" && /color$/i.test(key)) {
      return (figures.dark[value.slice(0, 7)] ?? value.slice(0, 7)) + value.slice(7);
    }
    if (Array.isArray(value)) return value.map((item) => swapped(item, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, swapped(item, name)]));
    }
    return value;
  }

  function put(object, path, value) {
    const steps = path.replace(/\[(\d+)\]/g, ".$1").split(".");
    const last = steps.pop();
    for (const step of steps) object = object[step] ??= {};
    object[last] = value;
  }

  function specification(id, width) {
    const { data, layout, narrow } = structuredClone(figures.charts[id]);
    if (width < NARROW) for (const [path, value] of Object.entries(narrow)) put(layout, path, value);
    const whole = { data, layout: { ...layout, template: figures.template, width, showlegend: false } };
    const { data: traces, layout: dressed } = isDark() ? swapped(whole, "") : structuredClone(whole);
    return [traces, dressed, figures.config];
  }

  function paint(plot) {
    const width = printing ? PRINT_WIDTH : Math.floor(plot.clientWidth);
    if (!width || !window.Plotly) return;
    const state = `${width} ${isDark()}`;
    if (drawn.get(plot) === state) return;
    drawn.set(plot, state);
    plot.querySelector("noscript")?.remove();
    window.Plotly.react(plot, ...specification(plot.dataset.chart, width));
  }

  const repaint = () => drawn.forEach((_, plot) => paint(plot));
  const visible = (plot) => plot.clientWidth > 0;

  async function draw(plot) {
    await inflate();
    paint(plot);
  }

  async function drawTheRest() {
    for (const plot of all(".plot").filter(visible)) {
      await new Promise((resolve) => (window.requestIdleCallback ?? setTimeout)(resolve));
      await draw(plot);
    }
    root.dataset.charts = "drawn";
  }

  function startFigures() {
    figures = JSON.parse(document.getElementById("figures").textContent);
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
    }, { rootMargin: "600px" });
    const resized = new ResizeObserver((entries) => requestAnimationFrame(() => {
      for (const entry of entries) if (drawn.has(entry.target)) paint(entry.target);
    }));
    for (const plot of all(".plot")) { near.observe(plot); resized.observe(plot); }
    prefersDark.addEventListener("change", repaint);
    addEventListener("beforeprint", () => { printing = true; openAll(); all(".plot").forEach(paint); });
    addEventListener("afterprint", () => { printing = false; repaint(); });
    setTimeout(drawTheRest, 300);
  }

  // ---- the page: theme, deep links, where we are
  const openAll = () => all("details.section").forEach((section) => { section.open = true; });

  function startTheme() {
    const button = document.getElementById("theme");
    const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      remembered.set(root.dataset.theme);
      label();
      repaint();
    });
    prefersDark.addEventListener("change", label);
    label();
  }

  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let box = target; box; box = box.parentElement?.closest("details")) if (box.tagName === "DETAILS") box.open = true;
    target.scrollIntoView();
  }

  function startCompass() {
    const links = new Map(all("nav li a").map((link) => [link.hash.slice(1), link]));
    const compass = new IntersectionObserver((entries) => {
      for (const entry of entries) links.get(entry.target.id)?.toggleAttribute("aria-current", entry.isIntersecting);
    }, { rootMargin: "-20% 0px -79%" });
    all("details.section").forEach((section) => compass.observe(section));
  }

  // ---- tables: sort, filter, download
  const valueOf = (cell) => cell.dataset.v ?? cell.textContent.trim();

  function order(a, b) {
    const [x, y] = [Number(a), Number(b)];
    if (a === "" || b === "" ) return (a === "") - (b === "");
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  }

  function sort(table, column, header) {
    const descending = header.getAttribute("aria-sort") === "ascending";
    all("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    table.classList.add("sorted");
    const rows = [...table.tBodies[0].rows];
    const known = rows.filter((row) => valueOf(row.cells[column]) !== "");
    known.sort((a, b) => (descending ? -1 : 1) * order(valueOf(a.cells[column]), valueOf(b.cells[column])));
    table.tBodies[0].append(...known, ...rows.filter((row) => !known.includes(row)));
  }

  function startSorting() {
    for (const table of all("table[data-sortable]")) {
      all("thead th", table).forEach((header, column) => {
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: header.textContent });
        button.addEventListener("click", () => sort(table, column, header));
        header.replaceChildren(button);
      });
    }
  }

  function startFilter(form) {
    const table = document.getElementById(form.dataset.filters);
    const rows = [...table.tBodies[0].rows];
    const columns = Object.fromEntries(all("thead th", table).map((header, column) => [header.dataset.csv, column]));
    for (const select of all("select", form)) {
      const values = new Set(rows.map((row) => row.cells[columns[select.name]].textContent.trim()));
      select.append(...[...values].sort().map((value) => new Option(value, value)));
    }
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const apply = () => {
      const words = form.elements.q.value.toLowerCase().split(/\s+/);
      let count = 0;
      for (const row of rows) {
        const fits = words.every((word) => texts.get(row).includes(word)) && all("select", form).every(
          (select) => !select.value || row.cells[columns[select.name]].textContent.trim() === select.value);
        row.hidden = !fits;
        count += fits;
      }
      form.querySelector("output").textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  function csvCell(text) {
    const guarded = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
    return /[",\n\r]/.test(guarded) ? `"${guarded.replaceAll('"', '""')}"` : guarded;
  }

  function csv(table) {
    const columns = all("thead th", table).flatMap((header, index) => (header.dataset.csv ? [index] : []));
    const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
    const lines = rows.map((row) => columns.map((index) => csvCell(valueOf(row.cells[index]))));
    return [columns.map((index) => csvCell(table.tHead.rows[0].cells[index].dataset.csv)), ...lines]
      .map((line) => line.join(",")).join("\r\n") + "\r\n";
  }

  function save(name, text, type) {
    const link = Object.assign(document.createElement("a"), { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function startDownloads() {
    const study = document.body.dataset.study;
    for (const button of all("[data-download]")) {
      const id = button.dataset.download;
      button.addEventListener("click", () => save(`${study}-${id.replace(/-table$/, "")}.csv`, csv(document.getElementById(id)), "text/csv"));
    }
    for (const button of all("[data-image]")) {
      button.addEventListener("click", async () => {
        const plot = document.querySelector(`.plot[data-chart="${button.dataset.image}"]`);
        await draw(plot);
        const url = await window.Plotly.toImage(plot, { format: "svg", width: plot.clientWidth, height: plot.clientHeight });
        save(`${study}-${button.dataset.image}.svg`, decodeURIComponent(url.slice(url.indexOf(",") + 1)), "image/svg+xml");
      });
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    startTheme();
    startSorting();
    all("[data-filters]").forEach(startFilter);
    startDownloads();
    startCompass();
    startFigures();
    addEventListener("hashchange", reveal);
    reveal();
  });
})();

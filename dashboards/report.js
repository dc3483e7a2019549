// The report: its charts, its sections, where in it we are.
(() => {
  const NARROW = 560, PRINT_WIDTH = 680;
  const { all, kept, root, save } = page;
  let printing = false;
  const isDark = () => !printing && page.isDark();

  // ---- figures: they and plotly.js are inflated once; a figure is drawn when it comes near, or when it is its turn
  let figures, plotly, packed;
  const drawn = new Map();

  function unpacked(id) {
    const text = atob(document.getElementById(id).textContent);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i); // a callback a byte takes ten times as long
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
  }

  const data = () => packed ??= unpacked("figures").json().then((found) => (figures = found));

  async function inflated() {
    const [source] = await Promise.all([unpacked("plotly").blob(), data()]);
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    await new Promise((resolve, reject) => {
      const script = Object.assign(document.createElement("script"), { src: url, onload: resolve, onerror: reject });
      document.head.append(script);
    });
    URL.revokeObjectURL(url);
  }

  const inflate = () => plotly ??= inflated();

  function swapped(value, key) {
    if (typeof value === "string" && /color(scale)?$/i.test(key)) {
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

  // One panel of a figure, alone: what a verdict's evidence shows of the learning curves.
  function alone({ data, layout }, panel) {
    const [x, y] = ["x", "y"].map((kind) => (panel ? `${kind}${panel + 1}` : kind));
    const axis = (name) => ({ ...layout[`${name[0]}axis${name.slice(1)}`], domain: [0, 1], anchor: name[0] === "x" ? "y" : "x", showticklabels: true });
    const shapes = (layout.shapes ?? []).filter((shape) => shape.xref.split(" ")[0] === x)
      .map((shape) => ({ ...shape, xref: shape.xref.replace(x, "x"), yref: shape.yref.replace(y, "y") }));
    return {
      data: data.filter((trace) => (trace.xaxis ?? "x") === x).map((trace) => ({ ...trace, xaxis: "x", yaxis: "y" })),
      layout: { height: 270, margin: { l: 58, r: 14, t: 10, b: 44 }, shapes, xaxis: axis(x), yaxis: { ...axis(y), title: layout.yaxis.title } },
    };
  }

  function specification(plot, width) {
    const whole_figure = structuredClone(figures.charts[plot.dataset.chart]);
    const { data, layout } = plot.dataset.panel ? alone(whole_figure, Number(plot.dataset.panel)) : whole_figure;
    if (width < NARROW && !plot.dataset.panel) for (const [path, value] of Object.entries(whole_figure.narrow)) put(layout, path, value);
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
    window.Plotly.react(plot, ...specification(plot, width));
  }

  const repaint = () => drawn.forEach((_, plot) => paint(plot));
  const visible = (part) => part.checkVisibility(); // what a closed part holds is laid out and not shown

  async function draw(plot) {
    await inflate();
    paint(plot);
  }

  async function drawTheRest() {
    for (const plot of all(".plot").filter((one) => visible(one) && !drawn.has(one))) {
      await draw(plot);
      await new Promise((resolve) => (window.requestIdleCallback ?? setTimeout)(resolve));
    }
    root.dataset.charts = "drawn";
  }

  function startFigures() {
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
    }, { rootMargin: "600px" });
    const resized = new ResizeObserver((entries) => requestAnimationFrame(() => {
      for (const entry of entries) if (drawn.has(entry.target)) paint(entry.target);
    }));
    for (const plot of all(".plot")) { near.observe(plot); resized.observe(plot); }
    addEventListener("beforeprint", () => { printing = true; all(".plot").filter(visible).forEach(paint); });
    addEventListener("afterprint", () => { printing = false; repaint(); });
    requestAnimationFrame(() => setTimeout(drawTheRest)); // once the text stands
  }

  // ---- tables: their rows are written when the part they stand in is opened
  async function fill(table) {
    if (!table.dataset.packed || table.tHead) return;
    const { tables, styles } = await data();
    if (table.tHead) return; // filled meanwhile
    const { columns, rows, groups } = tables[table.dataset.packed];
    const make = (name, content, properties = {}) => {
      const made = Object.assign(document.createElement(name), properties);
      made.append(...[content].flat());
      return made;
    };
    const head = document.createElement("tr");
    for (const [title, csv, look, hidden] of columns) {
      const cell = make("th", title, { scope: "col", className: look, hidden });
      if (csv) cell.dataset.csv = csv;
      head.append(cell);
    }
    const opens = new Set(groups);
    const body = document.createElement("tbody");
    rows.forEach((row, number) => {
      const line = document.createElement("tr");
      if (opens.has(number)) line.className = "group";
      row.forEach((entry, i) => {
        const [text, value, icon, method] = [entry].flat();
        const [, , look, hidden] = columns[i];
        const repeated = !i && groups.length && !opens.has(number);
        const cell = make(i ? "td" : "th", repeated ? make("span", text, { className: "repeat" }) : text, { className: look, hidden });
        if (!i) cell.scope = "row";
        if (value !== null && value !== undefined) cell.dataset.v = value;
        if (method && styles[method]) cell.prepend(mark(styles[method]));
        if (icon) cell.prepend(symbol(`icon ${icon}`, `v-${icon}`));
        line.append(cell);
      });
      body.append(line);
    });
    table.append(make("thead", head), body);
    table.parentElement.querySelector("noscript")?.remove();
    if ("sortable" in table.dataset) page.startTable(table);
  }

  function symbol(look, id) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", look);
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `#${id}`);
    svg.append(use);
    return svg;
  }

  function mark([shape, light, dark]) {
    const svg = symbol("mark", `m-${shape}`);
    svg.style.setProperty("--c", light);
    svg.style.setProperty("--d", dark);
    return svg;
  }

  function startTables() {
    addEventListener("toggle", (event) => {
      if (!event.target.open) return;
      all("table[data-packed]", event.target).filter(visible).forEach(fill);
      drawTheRest();
    }, true);
    for (const table of all("table[data-packed][data-sortable]")) {
      const { place } = document.querySelector(`[data-filters="${table.id}"]`).dataset;
      kept.push({
        place,
        async restore(query) { // the first visit; from then on the table restores itself
          if (table.tHead || !location.hash.startsWith(`#${place}`)) return;
          await fill(table);
          kept.filter((one) => one.place === place).at(-1).restore(query);
          if (!page.returned) document.getElementById(place).scrollIntoView(); // the part has grown since
        },
      });
    }
  }

  function startCompass() {
    const links = new Map(all("nav li a").map((link) => [link.hash.slice(1), link]));
    const compass = new IntersectionObserver((entries) => {
      for (const entry of entries) links.get(entry.target.id)?.toggleAttribute("aria-current", entry.isIntersecting);
    }, { rootMargin: "-20% 0px -79%" });
    all("main > section, main > header").forEach((section) => compass.observe(section));
  }

  function startImages() {
    for (const button of all("[data-image]")) {
      button.addEventListener("click", async () => {
        const plot = document.querySelector(`.plot[data-chart="${button.dataset.image}"]`);
        await draw(plot);
        const url = await window.Plotly.toImage(plot, { format: "svg", width: plot.clientWidth, height: plot.clientHeight });
        const name = `${document.body.dataset.name}-${button.dataset.image}.svg`;
        save(name, decodeURIComponent(url.slice(url.indexOf(",") + 1)), "image/svg+xml");
      });
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    Object.assign(page, { data, draw, fill });
    document.getElementById("glossary").open = false; // without this script its words are footnotes, and open
    startTables();
    page.startDetails();
    page.start(repaint);
    startImages();
    startCompass();
    startFigures();
  });
})();

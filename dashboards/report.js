// The report: its charts, its sections, where in it we are.
(() => {
  const NARROW = 560, PRINT_WIDTH = 680;
  const { all, root, save } = page;
  let printing = false;
  const isDark = () => !printing && page.isDark();

  // ---- figures: they and plotly.js are inflated once, a figure is drawn when it comes near or when there is time
  let figures, plotly;
  const drawn = new Map();

  function unpacked(id) {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")));
  }

  function inflate() {
    plotly ??= (async () => {
      figures = await unpacked("figures").json();
      const source = URL.createObjectURL(new Blob([await unpacked("plotly").blob()], { type: "text/javascript" }));
      await new Promise((resolve, reject) => {
        const script = Object.assign(document.createElement("script"), { src: source, onload: resolve, onerror: reject });
        document.head.append(script);
      });
      URL.revokeObjectURL(source);
    })();
    return plotly;
  }

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
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
    }, { rootMargin: "600px" });
    const resized = new ResizeObserver((entries) => requestAnimationFrame(() => {
      for (const entry of entries) if (drawn.has(entry.target)) paint(entry.target);
    }));
    for (const plot of all(".plot")) { near.observe(plot); resized.observe(plot); }
    addEventListener("beforeprint", () => { printing = true; openAll(); all(".plot").forEach(paint); });
    addEventListener("afterprint", () => { printing = false; repaint(); });
    setTimeout(drawTheRest, 300);
  }

  const openAll = () => all("details.section, details.more").forEach((box) => { box.open = true; });

  function startCompass() {
    const links = new Map(all("nav li a").map((link) => [link.hash.slice(1), link]));
    const compass = new IntersectionObserver((entries) => {
      for (const entry of entries) links.get(entry.target.id)?.toggleAttribute("aria-current", entry.isIntersecting);
    }, { rootMargin: "-20% 0px -79%" });
    all("details.section").forEach((section) => compass.observe(section));
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
    page.start(repaint);
    startImages();
    startCompass();
    startFigures();
  });
})();

// What stands behind a verdict, opened by a click, a touch or Enter; and the words that explain themselves.
(() => {
  const { all, kept, write } = page;
  const SVG = "http://www.w3.org/2000/svg";
  let open = null; // {cell, method}: the verdict whose evidence is shown

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function drawn(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const matrix = () => document.querySelector(".matrix.shown") ?? document.querySelector(".matrix");
  const budget = () => matrix()?.dataset.budget;
  const button = (cell, method) => all(".entry .open", matrix()).find((b) => b.dataset.cell === cell && b.dataset.method === method);

  function show(at) {
    const wanted = all(".matrix").find((one) => one.dataset.budget === at) ?? all(".matrix")[0];
    for (const one of all(".matrix")) one.classList.toggle("shown", one === wanted);
    for (const one of all("[data-budget][aria-pressed]")) one.setAttribute("aria-pressed", one.dataset.budget === wanted?.dataset.budget);
  }

  function close() {
    all(".detail").forEach((row) => row.remove());
    all(".entry .open[aria-expanded=true]").forEach((b) => { b.setAttribute("aria-expanded", "false"); b.removeAttribute("aria-controls"); });
    open = null;
  }

  // ---- the gains, replicate by replicate
  function strip(one) {
    const [low, high, delta, mean, from, to] = one.scale;
    const margin = 0.05 * (high - low) || 1;
    const at = (value) => `${(100 * Math.min(1, Math.max(0, (value - low + margin) / (high - low + 2 * margin)))).toFixed(2)}%`;
    const svg = drawn("svg", { width: "100%", height: 58, role: "img", "aria-label": `Gains of ${one.units.length} values: ${one.words.join(", ")}` });
    const zone = drawn("rect", { class: "zone", x: at(-delta), y: 0, height: 40, width: `${parseFloat(at(delta)) - parseFloat(at(-delta))}%` });
    svg.append(zone, drawn("line", { class: "zero", x1: at(0), x2: at(0), y1: 0, y2: 40 }));
    one.gains.forEach((gain, i) => {
      const dot = drawn("circle", { cx: at(gain), cy: 8 + (i % 3) * 6, r: 3.2 });
      dot.append(drawn("title", {}, `${one.units[i]}: ${one.words[i]}`));
      svg.append(dot);
    });
    if (from !== null) svg.append(drawn("line", { class: "reach", x1: at(from), x2: at(to), y1: 33, y2: 33 }));
    svg.append(drawn("rect", { class: "middle", x: at(mean), y: 27, width: 4, height: 12 }));
    svg.append(drawn("text", { x: at(0), y: 54, "text-anchor": "middle" }, "0"));
    for (const [value, words] of [[-delta, "−δ"], [delta, "δ"]]) svg.append(drawn("text", { x: at(value), y: 54, "text-anchor": "middle" }, words));
    const box = element("div", { className: "gains" }, svg);
    box.style.setProperty("--c", one.color[0]);
    box.style.setProperty("--d", one.color[1]);
    return box;
  }

  function table(caption, heads, rows) {
    const head = element("tr", {}, ...heads.map(([text, numeric]) => element("th", { scope: "col", className: numeric ? "num" : "", textContent: text })));
    const body = rows.map((row) => element("tr", {}, ...row.map((content, i) => {
      const cell = element(i ? "td" : "th", { className: heads[i][1] ? "num" : "" });
      if (!i) cell.scope = "row";
      cell.append(...[content].flat());
      return cell;
    })));
    const made = element("table", {}, element("caption", { textContent: caption }), element("thead", {}, head), element("tbody", {}, ...body));
    return element("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: caption }, made);
  }

  const runLink = (id) => element("a", { href: `#runs?q=${id.slice(0, 8)}`, textContent: id.slice(0, 8) });
  const pick = (side, unit) => (side ? side.picks[side.one ? Object.keys(side.picks)[0] : unit] ?? "–" : "–");

  function replicates(one, sides, unitWord) {
    const picked = sides.some(Boolean); // results that were made elsewhere tell no configurations
    const heads = [[unitWord[0].toUpperCase() + unitWord.slice(1), true], [`Gain, ${one.unit}`, true], [one.method, true], [one.baseline, true],
      ...(picked ? [[`${one.method} picked`, false], ["Baseline picked", false]] : [])];
    const rows = one.units.map((unit, i) => [String(unit), one.words[i], one.scores[0][i], one.scores[1][i], ...(picked ? [pick(sides[0], unit), pick(sides[1], unit)] : [])]);
    return table(`Paired gains${picked ? " and configurations" : ""}, ${unitWord} by ${unitWord}; scores are ${one.score}`, heads, rows);
  }

  function runs(one, sides, unitWord) {
    const names = [one.method, one.baseline];
    const rows = one.units.flatMap((unit) => sides.flatMap((side, s) => (side?.runs[unit] ?? []).map(([id, seed, status, weights, val, test]) =>
      [runLink(id), String(unit), names[s], seed, status, weights, val, test])));
    if (!rows.length) return element("p", { className: "note", textContent: "Its single runs are in runs.parquet, beside this page." });
    const heads = [["Run", false], [unitWord[0].toUpperCase() + unitWord.slice(1), true], ["Of", false], ["Seed", true], ["Status", false], ["Weights it stands by", false], ["Validation", true], ["Test", true]];
    const box = table(`The ${rows.length} confirm runs behind this verdict`, heads, rows);
    box.classList.add("low");
    return box;
  }

  function against(one) {
    return table("Against every baseline", [["Baseline", false], ["Its mean", true], [`Gain, ${one.unit} [95 % CI]`, true], ["p", true]], one.against);
  }

  function curves(one) {
    if (!one.curves) return null;
    const [chart, panel] = one.curves;
    const plot = element("div", { className: "plot", role: "img", ariaLabel: `Learning curves in ${one.label}; the data is in the table under “Why”.` });
    Object.assign(plot.dataset, { chart, panel });
    plot.style.setProperty("--wide", "270px");
    plot.style.setProperty("--narrow", "240px");
    return plot;
  }

  async function toggle(cell, method, changed) {
    const same = open && open.cell === cell && open.method === method;
    close();
    const from = button(cell, method);
    if (!from || (changed && same)) return changed && note();
    open = { cell, method };
    from.setAttribute("aria-expanded", "true");
    from.setAttribute("aria-controls", "behind");
    const place = element("div", { className: "behind", id: "behind" });
    place.setAttribute("role", "cell");
    const row = element("div", { className: "detail" }, place);
    row.setAttribute("role", "row");
    from.closest("[role=row]").after(row);
    if (changed) note();
    const { details } = await page.data();
    const one = details.verdicts.find((v) => v.cell === cell && v.method === method && v.budget === budget());
    if (!one || !row.isConnected) return;
    const sides = one.sides.map((name) => details.contenders[name]);
    const cut = one.units.length < one.total ? ` The first ${one.units.length} of ${one.total} are listed; findings.json has all.` : "";
    const plot = curves(one);
    place.append(
      element("h3", { textContent: `${one.method} in ${one.label}, over ${one.baseline}` }),
      element("p", { className: "note", textContent: one.apart || `${one.mean} ${one.unit} (mean, 95 % interval) over ${one.total} paired ${details.unit}s, each a dot; the shaded zone is ±δ.${cut}` }),
      ...(one.apart ? [] : [strip(one), replicates(one, sides, details.unit)]), ...(plot ? [plot] : []), ...(details.unit === "run" ? [] : [runs(one, sides, details.unit)]),
      ...(one.against.length > 1 ? [against(one)] : []),
      ...(details.unit === "run" ? [] : [element("p", { className: "tools" }, element("a", { href: `#runs?stage=confirm&problem=${encodeURIComponent(one.label)}`, textContent: "All confirm runs of this problem" }))]),
    );
    if (plot) page.draw(plot);
    if (!changed) from.scrollIntoView({ block: "start" });
  }

  function note() {
    const first = all(".matrix")[0]?.dataset.budget;
    write("verdicts", { at: budget() === first ? "" : budget(), problem: open?.cell, method: open?.method });
  }

  function startVerdicts() {
    for (const one of all(".budgets [data-budget]")) {
      one.addEventListener("click", () => {
        const shown = open;
        show(one.dataset.budget);
        if (shown) { close(); toggle(shown.cell, shown.method, false).then(note); } else note();
      });
    }
    addEventListener("click", (event) => {
      const from = event.target.closest?.(".entry .open");
      if (from) toggle(from.dataset.cell, from.dataset.method, true);
    });
    kept.push({
      place: "verdicts",
      restore(query) {
        show(query.get("at"));
        const cell = query.get("problem"), method = query.get("method");
        if (!cell || !method) return close();
        if (!open || open.cell !== cell || open.method !== method || !all(".detail", matrix()).length) toggle(cell, method, false);
      },
    });
  }

  // ---- words: a link to the glossary without this, a note beside the word with it
  function startWords() {
    const box = document.getElementById("meaning");
    addEventListener("click", (event) => {
      const link = event.target.closest?.("dfn a");
      const entry = link && document.getElementById(link.hash.slice(1));
      if (!entry || !box.showPopover) return;
      event.preventDefault();
      box.replaceChildren(element("b", { textContent: entry.querySelector("dt").textContent }), element("span", { textContent: entry.querySelector("dd").textContent }));
      box.showPopover();
      const at = link.getBoundingClientRect(), own = box.getBoundingClientRect();
      box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - own.width - 8))}px`;
      box.style.top = `${at.bottom + own.height + 12 < innerHeight ? at.bottom + 6 : Math.max(8, at.top - own.height - 6)}px`;
    });
    addEventListener("scroll", () => { if (box.matches(":popover-open")) box.hidePopover(); }, { passive: true });
  }

  page.startDetails = () => { startVerdicts(); startWords(); };
})();
